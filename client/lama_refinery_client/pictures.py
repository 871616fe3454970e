"""Images of Pillow's and arrays of numpy's: as files for the service, and results as what was given.

This package depends on neither. Whoever gives an image or an array has loaded its library; arrays also need Pillow.
"""

from __future__ import annotations

import importlib
import io
import sys
from typing import Any, Protocol, TypeAlias, TypeVar


class PillowImage(Protocol):
    """An image of Pillow's."""

    @property
    def mode(self) -> str: ...
    @property
    def info(self) -> dict[Any, Any]: ...


class Array(Protocol):
    """An array of numpy's: uint8, HxWx3 or HxWx4; for a mask HxW, uint8 or bool (True = hole)."""

    @property
    def __array_interface__(self) -> dict[str, Any]: ...


Picture: TypeAlias = "PillowImage | Array"
PictureT = TypeVar("PictureT", bound=PillowImage | Array)
KEPT_MODES = ("L", "LA", "RGB", "RGBA", "I;16")  # of Pillow's images, those that a PNG holds and that hold any filling


def as_file(given: Any, field: str) -> Any:
    """A picture as the bytes of a PNG, without loss; anything else as it is. Raises TypeError, ImportError."""
    if _is_array(given):
        given = _of_array(given, field)
    elif not _is_image(given):
        return given
    plain = given.copy() if given.mode in (*KEPT_MODES, "1", "P") else given.convert(_colours(given))
    plain.info.pop("exif", None)  # its orientation would turn the picture: what the caller sees is what is meant
    out = io.BytesIO()
    plain.save(out, "PNG", compress_level=1)
    return out.getvalue()


def like(given: Any, data: bytes) -> Any:
    """A result, the bytes of a file, as an image or array like the given photo; as bytes for anything else."""
    if not _is_array(given) and not _is_image(given):
        return data
    image = _pillow().open(io.BytesIO(data))
    if _is_array(given):
        return sys.modules["numpy"].array(image.convert("RGBA" if given.shape[2] == 4 else "RGB"))
    made = image.convert(given.mode if given.mode in KEPT_MODES else _colours(given))
    made.info = {name: value for name, value in given.info.items() if name != "transparency"}
    return made


def _is_image(given: Any) -> bool:
    loaded = sys.modules.get("PIL.Image")
    return loaded is not None and isinstance(given, loaded.Image)


def _is_array(given: Any) -> bool:
    loaded = sys.modules.get("numpy")
    return loaded is not None and isinstance(given, loaded.ndarray)


def _of_array(given: Any, field: str) -> Any:
    shape, kind = given.shape, given.dtype.name
    if field == "mask" and len(shape) == 2 and kind in ("bool", "uint8"):
        return _pillow().fromarray(given.astype("uint8") * 255 if kind == "bool" else given)
    if len(shape) == 3 and shape[2] in (3, 4) and kind == "uint8":
        return _pillow().fromarray(given)
    raise TypeError(
        f"{field} should be an array of uint8, HxWx3 or HxWx4 (a mask: HxW, uint8 or bool), not {kind} {shape}; send "
        "pixels of 16 bits as a file"
    )


def _colours(image: Any) -> str:
    return "RGBA" if image.has_transparency_data else "RGB"


def _pillow() -> Any:
    try:
        return importlib.import_module("PIL.Image")
    except ImportError as error:
        raise ImportError("arrays become files with Pillow: pip install pillow") from error
