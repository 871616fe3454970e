"""Arrays of pixels: what is accepted, how it becomes float and comes back, how it shrinks to a pixel budget."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models import pyramid

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


def from_float(values: NDArray[np.float32], like: NDArray[Any]) -> NDArray[Any]:
    """...x3 in [0, 1] to the type and the channels of `like`; opaque where it has alpha."""
    white = WHITE[like.dtype.name]
    colour = np.rint(values * white).astype(like.dtype) if like.dtype != np.float32 else values
    if like.shape[2] == 3:
        return colour
    return np.concatenate([colour, np.full((*colour.shape[:-1], 1), white, like.dtype)], axis=-1)


def shrunk(image: NDArray[Any], size: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """The picture at a smaller size, bilinear: HxWx3 float32 in [0, 1], and in the type and the channels of `image`."""
    pixels = torch.from_numpy(to_float(image)).permute(2, 0, 1)[None]
    small = pyramid.resize(pixels, *size)[0].permute(1, 2, 0).contiguous().numpy()
    result = from_float(small, image)
    if image.shape[2] == 4:
        alpha = torch.from_numpy(image[..., 3].astype(np.float32))[None, None]
        small_alpha = pyramid.resize(alpha, *size)[0, 0]
        result[..., 3] = (small_alpha if image.dtype == np.float32 else small_alpha.round()).numpy()
    return small, result
