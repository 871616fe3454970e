"""What a codec process does: bytes to pixels, pixels to bytes. Runs in the child alone.

Each operation takes its request, the files and the memory that came with it, and answers with fields for the reply,
byte strings, and nothing else: what is large it writes into memory that the parent hands out.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from images.codec.shared import SharedArray
from images.errors import NotTransplanted
from images.formats.jpeg.transplant import transplant
from images.hole import check_mask_size, find_hole, hole_fraction, pack_hole, unpack_hole
from images.hole_rule import HoleRule
from images.metadata import Metadata
from images.photo import MEDIA_TYPES, Header, Photo
from images.read import probe, read_image
from images.warnings import ImageWarning
from images.write import check_side, encode

PREVIEW_LONG_SIDE = 1600  # pixels, at most
PREVIEW_QUALITY = 85  # of a JPEG


class Parent(Protocol):
    """What an operation asks of its parent while it works."""

    def surveyed(self, header: Header, name: str, *, decoding: bool) -> None:
        """Tell what a header declares. If its pixels are decoded next: raise the limits, wait until there is room."""

    def memory(self, size: int) -> int:
        """A descriptor of shared memory of that size."""


@dataclass
class Reply:
    """fields: JSON. blobs: byte strings."""

    fields: dict[str, Any]
    blobs: list[bytes]


def check(parent: Parent, request: dict[str, Any], fds: dict[str, int], blobs: list[bytes]) -> Reply:
    """Whether an image and its mask can become a job; the hole, as it is stored."""
    with _file(fds["image"]) as image, _file(fds.get("mask")) as mask:
        limit = request["max_pixels"]
        header = probe(image, max_pixels=limit)
        parent.surveyed(header, "image", decoding=False)
        check_side(header.width, header.height, header.format if request["format"] == "same" else request["format"])
        hole = _found_hole(parent, image, mask, header, request)
    packed = pack_hole(hole)
    _hand_over(parent, packed)
    fields = {"header": _described(header), "hole_fraction": hole_fraction(hole), "bytes": len(packed)}
    return Reply(fields, [])


def decode(parent: Parent, request: dict[str, Any], fds: dict[str, int], blobs: list[bytes]) -> Reply:
    """The pixels of a photo, and of its hole where there is one."""
    with _file(fds["image"]) as image, _file(fds.get("mask")) as mask, _file(fds.get("hole")) as stored:
        limit = request["max_pixels"]
        header = probe(image, max_pixels=limit)
        parent.surveyed(header, "image", decoding=True)
        photo = read_image(image, max_pixels=limit, allocate=_allocator(parent))
        fields: dict[str, Any] = {"photo": photo_fields(photo), "hole": False}
        if stored is not None or mask is not None or request["alpha"]:
            if stored is not None:
                hole = unpack_hole(stored.read())
            else:
                hole = _found_hole(parent, image, mask, header, request)
            if hole.shape != photo.pixels.shape[:2]:
                raise ValueError("the stored hole has not the size of its photo")
            _allocator(parent)(hole.shape, np.bool_)[...] = hole
            fields["hole"] = True
    return Reply(fields, photo.metadata.packed())


def unpack(parent: Parent, request: dict[str, Any], fds: dict[str, int], blobs: list[bytes]) -> Reply:
    """The pixels of a stored hole."""
    with _file(fds["hole"]) as stored:
        hole = unpack_hole(stored.read())
    _allocator(parent)(hole.shape, np.bool_)[...] = hole
    return Reply({"shape": list(hole.shape)}, [])


def encode_photo(parent: Parent, request: dict[str, Any], fds: dict[str, int], blobs: list[bytes]) -> Reply:
    """A file of the pixels of a result."""
    pixels = _array(request["pixels"], fds["pixels"])
    photo = _photo(request, pixels, blobs)
    warnings: list[ImageWarning] = []
    data = encode(photo, pixels, request["format"], quality=request["quality"], warn=warnings.append)
    return Reply(_written(parent, data, request["format"]) | {"warnings": _listed(warnings)}, [])


def transplant_hole(parent: Parent, request: dict[str, Any], fds: dict[str, int], blobs: list[bytes]) -> Reply:
    """A JPEG file with the hole's part of a result, or why its other blocks cannot be kept."""
    pixels, hole = (_array(request[name], fds[name]) for name in ("pixels", "hole"))
    with _file(fds["source"]) as source:
        parent.surveyed(probe(source), "image", decoding=True)
        try:
            data = transplant(source, pixels, hole)
        except NotTransplanted as reason:
            return Reply({"unsupported": str(reason)}, [])
    return Reply(_written(parent, data, "jpeg"), [])


def preview_canvas(parent: Parent, request: dict[str, Any], fds: dict[str, int], blobs: list[bytes]) -> Reply:
    """A small picture of the photo, 8-bit RGB, and of its hole, 8-bit grey: what previews are laid into."""
    pixels, hole = _array(request["pixels"], fds["pixels"])[..., :3], _array(request["hole"], fds["hole"])
    height, width = hole.shape
    step = max(1, max(height, width) // (2 * PREVIEW_LONG_SIDE))  # what lies in between is never looked at
    near = pixels[::step, ::step]
    if near.dtype == np.uint16:
        near = (near >> 8).astype(np.uint8)
    share = min(1.0, PREVIEW_LONG_SIDE / max(height, width))
    size = max(1, round(width * share)), max(1, round(height * share))
    small = Image.fromarray(np.ascontiguousarray(near)).resize(size, Image.Resampling.LANCZOS)
    marked = Image.fromarray(hole.astype(np.uint8) * 255).resize(size, Image.Resampling.BOX, reducing_gap=2.0)
    allocate = _allocator(parent)
    allocate((size[1], size[0], 3), np.uint8)[...] = np.asarray(small)
    allocate((size[1], size[0]), np.uint8)[...] = np.asarray(marked)
    return Reply({"width": size[0], "height": size[1]}, [])


def preview(parent: Parent, request: dict[str, Any], fds: dict[str, int], blobs: list[bytes]) -> Reply:
    """Lay a window into a canvas, where its hole is; the canvas as a JPEG file."""
    canvas, hole = _array(request["canvas"], fds["canvas"]), _array(request["hole"], fds["hole"])
    window = _array(request["window"], fds["window"])
    left, top = request["left"], request["top"]
    right, bottom = left + window.shape[1], top + window.shape[0]
    picture = Image.fromarray(canvas)
    picture.paste(Image.fromarray(window), (left, top), Image.fromarray(hole).crop((left, top, right, bottom)))
    canvas[...] = np.asarray(picture)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=PREVIEW_QUALITY, icc_profile=blobs[0] or None)
    _hand_over(parent, file.getvalue())
    return Reply({"bytes": len(file.getvalue())}, [])


OPERATIONS: dict[str, Callable[[Parent, dict[str, Any], dict[str, int], list[bytes]], Reply]] = {
    "check": check,
    "decode": decode,
    "unpack": unpack,
    "encode": encode_photo,
    "transplant": transplant_hole,
    "preview-canvas": preview_canvas,
    "preview": preview,
}


def photo_fields(photo: Photo) -> dict[str, Any]:
    """What is told of a photo beside its pixels, profile and EXIF."""
    return {
        "format": photo.format,
        "shape": list(photo.pixels.shape),
        "bits": photo.bits,
        "grey": photo.grey,
        "warnings": _listed(photo.warnings),
    }


def _listed(warnings: Iterable[ImageWarning]) -> list[dict[str, str]]:
    return [asdict(warning) for warning in warnings]


def _found_hole(
    parent: Parent, image: BinaryIO, mask: BinaryIO | None, header: Header, request: dict[str, Any]
) -> NDArray[np.bool_]:
    rule, limit = HoleRule(**request["rule"]), request["max_pixels"]
    if mask is not None:
        # The size is compared first: a mask of a wrong size is never decoded.
        marked = probe(mask, max_pixels=limit, name="mask")
        check_mask_size((header.width, header.height), (marked.width, marked.height), rule)
        parent.surveyed(marked, "mask", decoding=True)
    elif header.has_alpha:
        parent.surveyed(header, "image", decoding=True)
    return find_hole(image, mask, rule, max_pixels=limit)


def _described(header: Header) -> dict[str, Any]:
    return {
        "format": header.format,
        "width": header.width,
        "height": header.height,
        "has_alpha": header.has_alpha,
        "bits": header.bits,
    }


def _photo(request: dict[str, Any], pixels: NDArray[Any], blobs: list[bytes]) -> Photo:
    return Photo(pixels, request["photo_format"], Metadata.unpacked(blobs), request["grey"])


def _allocator(parent: Parent) -> Callable[[tuple[int, ...], Any], NDArray[Any]]:
    def allocate(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        with SharedArray(shape, dtype, fd=parent.memory(size)) as made:
            return made.array

    return allocate


def _array(described: dict[str, Any], fd: int) -> NDArray[Any]:
    with SharedArray(tuple(described["shape"]), described["dtype"], fd=os.dup(fd)) as shared:
        return shared.array


def _written(parent: Parent, data: bytes, format: str) -> dict[str, Any]:
    _hand_over(parent, data)
    sha256 = hashlib.sha256(data).hexdigest()
    return {"media_type": MEDIA_TYPES[format], "bytes": len(data), "sha256": sha256}


def _hand_over(parent: Parent, data: bytes) -> None:
    _allocator(parent)((len(data),), np.uint8)[...] = np.frombuffer(data, np.uint8)


class _Descriptor(io.RawIOBase):
    """A file behind a descriptor that others share, read at a position of its own."""

    def __init__(self, fd: int):
        self._fd, self._at = fd, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = os.preadv(self._fd, [buffer], self._at)
        self._at += count
        return count

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at}.get(whence)
        self._at = max(0, offset + (os.fstat(self._fd).st_size if start is None else start))
        return self._at

    def tell(self) -> int:
        return self._at


class _Nothing:
    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


def _file(fd: int | None) -> Any:
    return _Nothing() if fd is None else io.BufferedReader(_Descriptor(fd), 1 << 16)
