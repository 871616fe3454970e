"""HEIC and AVIF: headers by libheif, pixels by libde265 and libavif. docs/decisions/0019-heic-avif.md says why.

Both are pictures in an ISO media file. What turns them stands in that file, and counts more than EXIF.
"""

from __future__ import annotations

import io
from typing import Any, BinaryIO

import imagecodecs
import numpy as np
import pi_heif  # type: ignore[import-untyped]
from numpy.typing import NDArray
from PIL import AvifImagePlugin

from images.formats import exif, png_metadata, samples, xmp
from images.formats.recognise import Facts, Format, damaged, truncated, variant
from images.metadata import Metadata
from images.warnings import GAIN_MAP, ImageWarning, further_pictures

# One thread is as fast for a single picture of a few megapixels, and bounds what a codec process does.
pi_heif.options.DECODE_THREADS = AvifImagePlugin.DEFAULT_MAX_THREADS = 1
_UNSPECIFIED = 2  # code of primaries and of a transfer function
_WANTED_MODES = {"L", "LA", "RGB", "RGBA", "I;16", "RGB;16", "RGBA;16"}


def survey_heic(file: BinaryIO, name: str) -> Facts:
    """Facts of the HEIC `file`, which is upright as it is decoded. Raises BrokenImage, UnsupportedFormat."""
    return _survey(file, name, "heic")


def survey_avif(file: BinaryIO, name: str) -> Facts:
    """Facts of the AVIF `file`. Raises BrokenImage, UnsupportedFormat."""
    return _survey(file, name, "avif")


def decode(file: BinaryIO, facts: Facts) -> NDArray[Any]:
    """The pixels, HxW or HxWxC, of a file whose survey gave `facts`: uint8, or uint16 in its full range."""
    file.seek(0)
    if facts.format == "heic":
        container = pi_heif.open_heif(file.read(), convert_hdr_to_8bit=False)
        found = np.array(container)  # a copy: the pixels go with the container
        # libheif shifts samples up to 16 bits, and so leaves the lowest ones empty.
        return samples.full_range(found if found.dtype == np.uint8 else found >> (16 - facts.depth), facts.depth)
    return samples.full_range(imagecodecs.avif_decode(file.read(), numthreads=1), facts.depth)


def _survey(file: BinaryIO, name: str, format: Format) -> Facts:
    file.seek(0)
    data = file.read()
    try:
        container = pi_heif.open_heif(data, convert_hdr_to_8bit=False)
        picture, mode, depth = container[container.primary_index], container.mode, int(container.info["bit_depth"])
        (width, height), orientation = picture.size, 1
        if format == "avif":  # its decoder turns nothing
            with AvifImagePlugin.AvifImageFile(io.BytesIO(data)) as stored:
                width, height = stored.size
                orientation = stored.getexif().get(exif.ORIENTATION, 1)
                frames = getattr(stored, "n_frames", 1)
        else:
            frames = len(container)
    except Exception as error:
        if "end of file" in str(error).lower() or isinstance(error, EOFError):
            raise truncated(name, format) from error
        raise damaged(name, format, "its header cannot be read") from error
    if format == "avif" and frames > 1:  # imagecodecs would decode all of it, or end the process
        raise variant(name, "an animation in AVIF")
    if mode not in _WANTED_MODES:
        raise variant(name, f"a picture of an unusual kind ({mode})")
    warnings: list[ImageWarning] = []
    if any("gainmap" in kind.lower() for kind in picture.info.get("aux", {})):
        warnings.append(GAIN_MAP)
    if frames > 1:
        warnings.append(further_pictures(f"{frames} pictures"))
    return Facts(
        format=format,
        width=width,
        height=height,
        orientation=orientation,
        has_alpha="A" in mode,
        depth=depth,
        bits=16 if depth > 8 else 8,
        deep=depth > 8,
        metadata=_metadata(picture.info, warnings),
        warnings=tuple(warnings),
    )


def _metadata(info: dict[str, Any], warnings: list[ImageWarning]) -> Metadata:
    """Profile, EXIF, XMP, and the codes of primaries and transfer function where there is no profile."""
    _, block = exif.normalised(info.get("exif"), warnings.append)
    colours: tuple[tuple[str, bytes], ...] = ()
    if named := info.get("nclx_profile"):
        codes = int(named["color_primaries"]), int(named["transfer_characteristics"])
        if _UNSPECIFIED not in codes and not info.get("icc_profile"):
            colours = (("cICP", bytes((*codes, 0, 1))),)  # of RGB in its full range, as decoded
            if png_metadata.is_srgb(colours):  # taken for granted
                colours = ()
    return Metadata(info.get("icc_profile"), block, xmp.kept(info.get("xmp"), warnings.append), colours=colours)
