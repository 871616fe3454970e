"""Rectangles of pixels."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Box:
    """Half-open pixel rectangle: rows top..bottom-1, columns left..right-1."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        """Rows."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """Columns."""
        return self.right - self.left

    @property
    def area(self) -> int:
        """Pixels."""
        return self.height * self.width

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of this part in an HxW array."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def overlaps(self, other: Box) -> bool:
        """Whether the two share a pixel."""
        return (
            self.top < other.bottom and other.top < self.bottom and self.left < other.right and other.left < self.right
        )

    def union(self, other: Box) -> Box:
        """The smallest box that holds both."""
        return Box(
            min(self.top, other.top),
            min(self.left, other.left),
            max(self.bottom, other.bottom),
            max(self.right, other.right),
        )

    def grown(self, pixels: int, height: int, width: int) -> Box:
        """This box with so many pixels more on each side, as far as a picture of this size has them."""
        return Box(
            max(0, self.top - pixels),
            max(0, self.left - pixels),
            min(height, self.bottom + pixels),
            min(width, self.right + pixels),
        )

    def within(self, other: Box) -> Box:
        """The part of this box that lies in `other`, in the coordinates of `other`; empty boxes have a size of 0."""
        top, left = max(0, self.top - other.top), max(0, self.left - other.left)
        bottom = max(top, min(self.bottom, other.bottom) - other.top)
        return Box(top, left, bottom, max(left, min(self.right, other.right) - other.left))
