"""What a client may ask for: the fields of a request beside the image and the mask.

The preset's fields can be overridden one by one under their own names. Bounds are the engine's, repeated
here because an api machine has no engine; a test compares the two.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from jobs.errors import FieldError, InvalidParameters


class Parameters(BaseModel):
    """The parameters of one job. An override that is None is left to the preset."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    preset: Literal["default", "reference", "single-pass"] = Field(
        default="default",
        description="`default` refines windows at native resolution, `reference` is the published algorithm "
        "(shrinks large images to its pixel budget), `single-pass` does not refine.",
    )
    network: Literal["auto", "big-lama", "builtin"] = Field(
        default="auto", description="`auto` takes the network that the worker holds."
    )
    mask_invert: bool = Field(default=False, description="The dark part of the mask is the hole.")
    format: Literal["same", "png", "jpeg", "webp", "tiff"] = Field(
        default="png",
        description="Format of the result. `png` keeps every pixel outside the hole as it was; `same` is the image's "
        "own format, and a JPEG is compressed anew.",
    )
    iterations: int | None = Field(default=None, ge=1, le=200, description="Forward passes per refined scale.")
    learning_rate: float | None = Field(default=None, ge=1e-5, le=1.0, description="Step size of the refinement.")
    min_side: int | None = Field(
        default=None, ge=64, le=4096, description="Short side of the coarsest scale, in pixels, about."
    )
    max_scales: int | None = Field(default=None, ge=1, le=8, description="At most so many scales; 1 is a single pass.")
    px_budget: int | None = Field(
        default=None,
        ge=4096,
        le=1_000_000_000,
        description="Pixels; a larger image is shrunk to this and its result comes back small.",
    )
    erosion: int | None = Field(
        default=None,
        ge=1,
        le=101,
        description="Pixels, odd: how far the hole shrinks where scales are compared.",
    )
    known_loss: bool | None = Field(default=None, description="Compare the known pixels too.")
    windows: bool | None = Field(default=None, description="Work on windows around the hole, not on the whole image.")
    context: float | None = Field(
        default=None, ge=0.1, le=4.0, description="Margin of a window, as a multiple of the size of its hole."
    )
    tile_side: int | None = Field(
        default=None, ge=256, le=8192, description="Pixels; finer scales are worked on in tiles of this side."
    )

    anchored: bool | None = Field(
        default=None, description="Correct what the refinement leaves of the difference to the coarser scale."
    )

    @field_validator("erosion")
    @classmethod
    def _odd(cls, value: int | None) -> int | None:
        if value is not None and value % 2 == 0:
            raise ValueError("should be odd")
        return value

    def overrides(self) -> dict[str, Any]:
        """The preset's fields that were set, by name."""
        return {name: value for name in OVERRIDES if (value := getattr(self, name)) is not None}

    @classmethod
    def from_fields(cls, fields: dict[str, str]) -> Parameters:
        """Parameters out of the text fields of a form.

        Raises InvalidParameters with every wrong field in its `errors`.
        """
        try:
            return cls.model_validate(fields)
        except ValidationError as error:
            wrong = [_field_error(item) for item in error.errors(include_url=False)]
        listed = "; ".join(f"{e.field}: {e.message}" for e in wrong)
        known = ", ".join(("image", "mask", *cls.model_fields))
        raise InvalidParameters(f"{listed}. The fields are {known}.", errors=wrong)


def _field_error(item: Any) -> FieldError:
    """One of pydantic's findings in our words, the client's value left out."""
    name = str(item["loc"][0])
    if item["type"] == "extra_forbidden":
        return FieldError(field=name[:64], message="there is no such field")
    message = str(item["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    return FieldError(field=name, message=message)


# The preset's fields among them, which `overrides` passes on.
OVERRIDES = tuple(
    name for name in Parameters.model_fields if name not in ("preset", "network", "mask_invert", "format")
)
