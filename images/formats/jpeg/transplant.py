"""A filled JPEG in which nothing outside the hole was compressed anew.

Every component of a JPEG is a plane of samples in blocks of 8 x 8. Blocks that the hole does not touch keep their
coefficients. In the others, samples of the hole come from the filled pixels and all others from the block's own
coefficients; then the block is transformed and quantised with the source's table. See docs/decisions/0018-jpeg.md.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from images.errors import NotTransplanted
from images.formats import exif
from images.formats.jpeg import reading as jpeg
from images.formats.jpeg import segments as jpeg_segments
from images.formats.jpeg.libjpeg import GREY, RGB, Coefficients, coefficients
from images.formats.recognise import Source, opened

Floats: TypeAlias = "NDArray[np.float32]"

SIDE = 8  # of a block, in samples
_MIDDLE = 128.0  # is subtracted from samples before they are transformed
_LARGEST = 1023  # coefficient of 8-bit samples that Huffman tables have codes for
# ITU-R 601 in full range, as JFIF has it: rows Y, Cb, Cr; columns R, G, B.
_YCC = np.array([(0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312)], np.float32)
_YCC_OFFSET = np.array([0.0, _MIDDLE, _MIDDLE], np.float32)
_FREQUENCY, _SAMPLE = np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij")
_DCT = (np.cos((2 * _SAMPLE + 1) * _FREQUENCY * np.pi / (2 * SIDE)) * np.where(_FREQUENCY, 0.5, 0.125**0.5)).astype(
    np.float32
)  # orthonormal


def transplant(source: Source, pixels: NDArray[np.uint8], hole: NDArray[np.bool_]) -> bytes:
    """The JPEG file `source` with the hole's pixels taken from `pixels`.

    pixels: HxWx3, upright; hole: HxW, upright. The file stays as it was stored, and keeps its orientation. Coding
    (baseline or progressive), quantisation tables, sampling and restart interval are the source's. Known pixels of a
    touched block are quantised once more. Metadata is kept as `jpeg_segments.kept` says. Raises NotTransplanted.
    """
    with opened(source) as file:
        facts = jpeg.survey(file, "image")
        if facts.upright_size != hole.shape[::-1] or hole.shape != pixels.shape[:2]:
            raise NotTransplanted("the result has another size than the image")
        if facts.metadata.exif is None and facts.orientation != 1:
            raise NotTransplanted("the image is turned by EXIF data that is damaged")
        metadata = jpeg_segments.kept(file)
        file.seek(0)
        data = file.read()
    stored_hole, stored = (exif.stored_view(array, facts.orientation) for array in (hole, pixels))
    with coefficients(data) as found:
        tallest, widest = (max(component.cell[axis] for component in found.components) for axis in (0, 1))
        for row, y in enumerate(range(0, len(stored_hole), SIDE * tallest)):
            band = np.ascontiguousarray(stored_hole[y : y + SIDE * tallest])
            columns = np.flatnonzero(band.any(axis=0))
            if len(columns):
                unit = SIDE * widest
                left, right = columns[0] // unit * unit, (columns[-1] // unit + 1) * unit
                _fill(found, row, left, band[:, left:right], stored[y : y + SIDE * tallest, left:right], right - left)
        written = found.written()
    return written[:2] + metadata + written[2:]


def _fill(
    found: Coefficients, row: int, left: int, hole: NDArray[np.bool_], pixels: NDArray[np.uint8], width: int
) -> None:
    """Fill the hole's part of one row of units; `left` and `width`, in pixels, are multiples of a unit's."""
    height = SIDE * max(component.cell[0] for component in found.components)
    # Beyond the picture's edge its last pixels go on, as encoders have it.
    beyond = ((0, height - hole.shape[0]), (0, width - hole.shape[1]))
    hole = np.pad(hole, beyond, mode="edge")
    planes = _planes(np.pad(pixels, (*beyond, (0, 0)), mode="edge"), found.colour_space)
    for index, (component, plane) in enumerate(zip(found.components, planes, strict=True)):
        rows, columns = component.cell
        blocks = width // (SIDE * columns)
        cells = (height // rows, rows, width // columns, columns)
        in_hole = _blocks(np.asarray(hole.reshape(cells).any(axis=(1, 3))), blocks)
        filled = _blocks(plane.reshape(cells).mean(axis=(1, 3)), blocks)
        touched: NDArray[np.bool_] = np.asarray(in_hole.any(axis=(2, 3)))
        first = left // (SIDE * columns)
        for below, hit in enumerate(touched):
            y = row * len(touched) + below
            at = np.flatnonzero(hit)
            at = at[first + at < component.width]
            if y < component.height and len(at):
                coded = found.row(index, y)
                samples = _DCT.T @ (coded[first + at] * component.table) @ _DCT + _MIDDLE
                samples = np.where(in_hole[below, at], filled[below, at], samples)
                levels = np.rint((_DCT @ (samples - _MIDDLE) @ _DCT.T) / component.table)
                coded[first + at] = np.clip(levels, -_LARGEST, _LARGEST).astype(np.int16)


def _blocks(plane: NDArray, across: int) -> NDArray:  # type: ignore[type-arg]
    """rows x columns of samples as rows x columns of blocks x 8 x 8."""
    return plane.reshape(-1, SIDE, across, SIDE).swapaxes(1, 2)


def _planes(pixels: NDArray[np.uint8], colour_space: int) -> list[Floats]:
    """The components of HxWx3 pixels, 0 to 255."""
    rgb = pixels.astype(np.float32)
    if colour_space == RGB:
        return list(np.moveaxis(rgb, 2, 0))
    matrix = _YCC[:1] if colour_space == GREY else _YCC
    return list(np.moveaxis(rgb @ matrix.T + _YCC_OFFSET[: len(matrix)], 2, 0))
