"""Images as callers have them (a path, bytes, a binary file), as parts of an upload that can be sent twice."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, TypeAlias

from lama_refinery_client.pictures import Picture, as_file

Source: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO"
Part: TypeAlias = "tuple[str, bytes | BinaryIO, str]"


@contextmanager
def opened(image: Source | Picture, mask: Source | Picture | None) -> Iterator[dict[str, Part]]:
    """The files of the form, each rewindable; what is opened here is closed after the block.

    A seekable file is sent from its start, and an image or array as a PNG. Raises OSError for a path that cannot be
    read, TypeError for other things.
    """
    with ExitStack() as stack:
        parts = {"image": _part("image", as_file(image, "image"), stack)}
        if mask is not None:
            parts["mask"] = _part("mask", as_file(mask, "mask"), stack)
        yield parts


def _part(field: str, source: Source, stack: ExitStack) -> Part:
    # The service tells the format by the content. A declared type would be a guess.
    kind = "application/octet-stream"
    if isinstance(source, bytes | bytearray | memoryview):
        return field, bytes(source), kind
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        return path.name, stack.enter_context(path.open("rb")), kind
    if not callable(getattr(source, "read", None)):
        raise TypeError(
            f"{field} should be a path, bytes, a binary file, an image of Pillow's or an array, "
            f"not {type(source).__name__}"
        )
    name = getattr(source, "name", None)
    shown = Path(name).name if isinstance(name, str) else field
    if source.seekable():
        if not isinstance(source.read(0), bytes):
            raise TypeError(f"{field} should be opened in binary mode: open(path, 'rb')")
        return shown, source, kind
    content = source.read()
    if not isinstance(content, bytes):
        raise TypeError(f"{field} should be opened in binary mode: open(path, 'rb')")
    return shown, content, kind
