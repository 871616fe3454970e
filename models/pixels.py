"""Arrays of pixels: what is accepted, how it becomes float and comes back, how it shrinks to a pixel budget."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models import finishing, pyramid

# The value of full intensity, by the array's type.
WHITE = {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0}


def check(image: NDArray[Any], hole: NDArray[np.bool_]) -> None:
    """Raise ValueError unless the image is HxWx3 or HxWx4 of a type in WHITE, and the hole HxW bool."""
    if image.ndim != 3 or image.shape[2] not in (3, 4):
        raise ValueError(f"image must be HxWx3 or HxWx4, not of shape {image.shape}")
    if hole.dtype != np.bool_ or hole.shape != image.shape[:2]:
        raise ValueError(
            f"mask must be a bool array of the image's size {image.shape[:2]}, not {hole.dtype} {hole.shape}"
        )
    if image.dtype.name not in WHITE:
        raise ValueError(f"image must be uint8, uint16 or float32, not {image.dtype}")


def to_float(image: NDArray[Any]) -> NDArray[np.float32]:
    """HxWx3 float32 in [0, 1], a copy; without alpha."""
    values = image[..., :3].astype(np.float32)
    values /= np.float32(WHITE[image.dtype.name])
    return values


def from_float(values: NDArray[np.float32], dtype: np.dtype[Any]) -> NDArray[Any]:
    """...x3 in [0, 1] to a type in WHITE."""
    return np.rint(values * WHITE[dtype.name]).astype(dtype) if dtype != np.float32 else values


def write(filling: NDArray[np.float32], image: NDArray[Any], where: NDArray[np.bool_], *, opaque: bool) -> None:
    """Put Nx3 colours in [0, 1] into HxWxC `image` at the N pixels where HxW `where` is True.

    Alpha stays as it is, unless the pixels are to become `opaque`.
    """
    image[where, :3] = from_float(filling, image.dtype)
    if opaque and image.shape[2] == 4:
        image[where, 3] = WHITE[image.dtype.name]


def fillable(image: NDArray[Any], hole: NDArray[np.bool_], *, opaque: bool) -> NDArray[np.bool_]:
    """The pixels of the hole that get a colour: all of them if they become `opaque`, else those that can be seen."""
    return hole if opaque or image.shape[2] == 3 else hole & (image[..., 3] > 0)


def seen(image: NDArray[Any], hole: NDArray[np.bool_]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """What a network may see of HxWx3 or HxWx4 pixels: their colours, HxWx3, and what it has to make up, HxW bool.

    A fully transparent pixel has no colour, whatever stands in the file: it is made up like the hole. In its place
    stand the colours around it, so that nothing bleeds into its neighbours when the picture is made smaller.
    """
    if image.shape[2] == 3 or (image[..., 3] > 0).all():
        return image[..., :3], hole
    visible = image[..., 3] > 0
    return from_float(_spread(image, visible), image.dtype), hole | ~visible


def _spread(image: NDArray[Any], visible: NDArray[np.bool_]) -> NDArray[np.float32]:
    """HxWx3 float32 in [0, 1]: the visible colours, and elsewhere those around."""
    weight = torch.from_numpy(visible)[None, None].float()
    colours = torch.from_numpy(to_float(image)).permute(2, 0, 1)[None]
    spread = finishing.spread(torch.where(weight > 0, colours, 0), weight)
    mixed: NDArray[np.float32] = torch.where(weight > 0, colours, spread)[0].permute(1, 2, 0).contiguous().numpy()
    return mixed


def replaced(image: NDArray[Any], other: NDArray[Any], where: NDArray[np.bool_]) -> NDArray[Any]:
    """A copy of HxWxC `image` with the pixels of `other` where HxW `where` is True. Types may differ for float32."""
    mixed, found = image.copy(), other[where]
    mixed[where] = found if found.dtype == image.dtype else found / np.float32(WHITE[found.dtype.name])
    return mixed


def shrunk(image: NDArray[Any], size: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """The picture at a smaller size, bilinear, with its channels: float32 in [0, 1], and in the type of `image`."""
    alpha = image.shape[2] == 4
    colours = _spread(image, image[..., 3] > 0) if alpha else to_float(image)
    small = _resized(colours, size)
    result = np.empty((*size, image.shape[2]), image.dtype)
    result[..., :3] = from_float(small, image.dtype)
    if alpha:
        small_alpha = _resized(image[..., 3:].astype(np.float32), size)
        result[..., 3:] = small_alpha if image.dtype == np.float32 else np.rint(small_alpha)
        small = np.concatenate([small, result[..., 3:] / np.float32(WHITE[image.dtype.name])], axis=-1)
    return small, result


def _resized(values: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """HxWxC at a smaller size, bilinear."""
    small = pyramid.resize(torch.from_numpy(values).permute(2, 0, 1)[None], *size)
    made: NDArray[np.float32] = small[0].permute(1, 2, 0).contiguous().numpy()
    return made
