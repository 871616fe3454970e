"""What a file says beside the pixels of its photo, in no format's own packing and safe to carry to a result."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal, Self, TypeAlias

Unit: TypeAlias = Literal["none", "inch", "centimetre", "metre"]

_PER_METRE: dict[Unit, float] = {"inch": 1 / 0.0254, "centimetre": 100.0, "metre": 1.0}


@dataclass(frozen=True)
class Density:
    """Pixels across and down per unit of length. Unit "none": their proportion alone, that of a pixel's sides."""

    x: float
    y: float
    unit: Unit

    @classmethod
    def of(cls, x: float, y: float, unit: Unit) -> Self | None:
        """The density that a file gives; None where it says nothing: a zero, or that pixels are square."""
        return None if x <= 0 or y <= 0 or (unit == "none" and x == y) else cls(x, y, unit)

    def per(self, unit: Unit) -> tuple[float, float] | None:
        """The same per another unit; None if this is a proportion and that is not, or the other way round."""
        if unit == self.unit:
            return self.x, self.y
        if "none" in (unit, self.unit):
            return None
        return self._converted(self.x, unit), self._converted(self.y, unit)

    def _converted(self, value: float, unit: Unit) -> float:
        factor = _PER_METRE[self.unit] / _PER_METRE[unit]
        whole = round(value * factor)
        # Whole numbers per metre, as PNG has them, were mostly rounded from whole numbers per inch.
        return float(whole) if round(whole / factor) == value else value * factor


@dataclass(frozen=True)
class Metadata:
    """icc: a colour profile. exif: a TIFF block (no `Exif` prefix). xmp: a packet of XML.

    colours: how the pixels are to be shown where there is no profile, in the words of PNG's chunks: pairs of a chunk's
    name (cICP, gAMA, cHRM, sRGB, mDCV, cLLI) and its content. texts: pairs of a keyword, 1 to 79 Latin-1 characters,
    and a text.
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    density: Density | None = None
    colours: tuple[tuple[str, bytes], ...] = ()
    texts: tuple[tuple[str, str], ...] = ()

    def packed(self) -> list[bytes]:
        """Byte strings of which `unpacked` makes the same again."""
        rest = {
            "density": None if self.density is None else asdict(self.density),
            "colours": [(name, data.hex()) for name, data in self.colours],
            "texts": self.texts,
        }
        return [self.icc or b"", self.exif or b"", self.xmp or b"", json.dumps(rest).encode()]

    @classmethod
    def unpacked(cls, parts: Sequence[bytes]) -> Self:
        """The metadata in what `packed` made."""
        icc, exif, xmp, text = parts
        rest = json.loads(text)
        return cls(
            icc or None,
            exif or None,
            xmp or None,
            None if rest["density"] is None else Density(**rest["density"]),
            tuple((name, bytes.fromhex(data)) for name, data in rest["colours"]),
            tuple((keyword, words) for keyword, words in rest["texts"]),
        )


NO_METADATA = Metadata()
