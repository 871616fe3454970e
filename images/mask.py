"""What a mask file draws: by its luminance or by its alpha, at its own size or resized to that of its photo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from images.errors import AmbiguousMask, MissingMask
from images.formats import decode, exif
from images.formats.recognise import Facts, Source
from images.hole_rule import HoleRule
from images.photo import luminance

_SOFT = (16, 239)  # of 255: darker is black and brighter is white, also where JPEG has rounded
_PHOTO_SHARE = 0.05  # of the visible pixels: more between black and white than the soft edges of a drawing


@dataclass
class Drawn:
    """What a mask file draws, before inversion and growing.

    hole: bool HxW, upright. brightness: a sentence for errors. soft: there is more than black and white in it.
    """

    hole: NDArray[np.bool_]
    brightness: str
    soft: bool

    def resized(self, width: int, height: int) -> NDArray[np.bool_]:
        """The hole at another size: by the nearest pixel, and of a soft mask with smooth edges."""
        how = Image.Resampling.BILINEAR if self.soft else Image.Resampling.NEAREST
        picture = Image.fromarray(self.hole.view(np.uint8) * 255).resize((width, height), how)
        return np.asarray(picture) >= 128


def read(source: Source, facts: Facts, rule: HoleRule, name: str) -> Drawn:
    """What `source` draws, whose survey gave `facts`.

    By luminance (ITU-R 601), a pixel is hole from the threshold on, with transparent pixels laid on black. By alpha, it
    is hole where alpha is below the threshold. Soft edges are cut there. The threshold is of 255; of 16 bits it counts
    256 times, unless no value is above 255: such a file has 8-bit values in a wider type.
    Raises MissingMask for a mask without the alpha that the rule asks for, and AmbiguousMask.
    """
    if rule.read_from == "alpha" and not facts.has_alpha:
        raise MissingMask(
            f"The {name} is to be read by its alpha (mask_from), but has no alpha channel. Send one that is "
            "transparent where the hole is, or let it be read by its luminance."
        )
    reading = _Reading(facts, rule)
    with decode.decoded(source, facts, name) as stored:
        views = {key: exif.stored_view(array, stored.orientation) for key, array in reading.arrays.items()}
        y = 0
        for band in stored.bands:
            reading.add(band, {key: view[y : y + len(band)] for key, view in views.items()})
            y += len(band)
    return reading.drawn(name)


class _Reading:
    """Both readings of a mask, band by band, and what it takes to choose between them."""

    def __init__(self, facts: Facts, rule: HoleRule) -> None:
        self._rule, self._wide = rule, facts.bits == 16
        keys = ["bright", *(["narrow"] if self._wide else []), *(["clear"] if facts.has_alpha else [])]
        width, height = facts.upright_size
        self.arrays = {key: np.empty((height, width), np.bool_) for key in keys}
        self._brightest = self._between = self._visible = 0
        self._alphas: set[int] = set()

    def add(self, band: NDArray[np.uint8 | np.uint16], targets: dict[str, NDArray[np.bool_]]) -> None:
        """The next rows of the file, HxWxC."""
        shift = 8 if self._wide else 0
        levels, scaled = luminance(band), self._rule.threshold << shift
        self._brightest = max(self._brightest, int(levels.max()))
        np.greater_equal(levels, scaled, out=targets["bright"])
        if self._wide:
            np.greater_equal(levels, self._rule.threshold, out=targets["narrow"])
        if "clear" in targets:
            alpha = band[..., -1]
            np.less(alpha, scaled, out=targets["clear"])
            self._alphas |= {int(alpha.min()), int(alpha.max())}
            opaque = alpha >= 128 << shift
            self._between += int(np.count_nonzero(_soft(luminance(band[..., :-1]), shift) & opaque))
            self._visible += int(np.count_nonzero(opaque))
        elif self._rule.resize:  # nobody else asks
            self._between += int(np.count_nonzero(_soft(levels, shift)))

    def drawn(self, name: str) -> Drawn:
        """The reading that the rule asks for."""
        soft, read_from = self._between > 0, self._rule.read_from
        if read_from == "alpha" or (read_from == "auto" and self._is_alpha(name)):
            return Drawn(self.arrays["clear"], f"Its lowest alpha is {min(self._alphas)}. ", soft)
        white = 0xFFFF if self._wide else 0xFF
        hole = self.arrays["bright"]
        if self._wide and self._brightest <= 0xFF:
            hole, white = self.arrays["narrow"], 0xFF
        return Drawn(hole, f"Its brightest pixel is {self._brightest} of {white}. ", soft)

    def _is_alpha(self, name: str) -> bool:
        """Whether the alpha draws the hole, where nobody says: in a photo with a transparent hole, or in plain dark."""
        if len(self._alphas) < 2:
            return False
        bright, clear = self.arrays["bright"], self.arrays["clear"]
        if not bright.any() or self._between > _PHOTO_SHARE * self._visible:
            return True
        raise AmbiguousMask(
            f"The {name} has a white part ({bright.mean():.1%} of it) and a transparent part ({clear.mean():.1%}), and "
            "either may be the hole. Say which: mask_from=luminance for the white part, mask_from=alpha for the "
            "transparent one."
        )


def _soft(levels: NDArray[Any], shift: int) -> NDArray[np.bool_]:
    """Where levels, of 8 bits after a shift, are neither black nor white."""
    return np.asarray((levels > _SOFT[0] << shift) & (levels < _SOFT[1] << shift))
