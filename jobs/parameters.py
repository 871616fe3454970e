"""What a client may ask for: the fields of a request beside the image and the mask.

The preset's fields can be overridden one by one under their own names; they are made from `models.planning.presets`.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import logging
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    create_model,
    field_validator,
)

from images.hole_rule import MAX_GROW_PIXELS, MAX_THRESHOLD, MIN_THRESHOLD, HoleRule, ReadFrom
from jobs.errors import MAX_FIELD_ERRORS, FieldError, InvalidParameters
from models.planning.networks import NETWORKS as NETWORKS
from models.planning.networks import NetworkChoice as NetworkChoice
from models.planning.presets import FIELDS, FORMER_NAMES, PresetField, PresetName

log = logging.getLogger(__name__)

MAX_METADATA = 16  # entries
MAX_BATCH_SIZE = 1_000_000  # far more than one owner can have queued

Priority = Literal["high", "normal", "low"]
WebhookEvent = Literal["job.started", "job.progress", "job.succeeded", "job.failed", "job.canceled", "batch.completed"]
BATCH_NAME = r"^[0-9A-Za-z][0-9A-Za-z._-]{0,63}$"
MetadataKey = Annotated[str, StringConstraints(min_length=1, max_length=64)]
MetadataValue = Annotated[str, StringConstraints(max_length=256)]


class _JobFields(BaseModel):
    """What is asked for that is no field of a preset."""

    # In a stored job, what a newer version added is passed over; of a client, unknown ones are refused below.
    model_config = ConfigDict(extra="ignore", frozen=True, json_schema_extra={"additionalProperties": False})

    preset: PresetName = Field(
        default="default",
        description="`default` refines windows at native resolution, `reference` is the published algorithm "
        "(shrinks large images to its pixel budget), `single-pass` does not refine.",
    )
    network: NetworkChoice = Field(default="auto", description="`auto` takes the network that the worker holds.")
    mask_threshold: int = Field(
        default=HoleRule.threshold,
        ge=MIN_THRESHOLD,
        le=MAX_THRESHOLD,
        description="Of 255: the hole is where the mask's luminance is at least this; without a mask, where the "
        "image's alpha is less.",
    )
    mask_from: ReadFrom = Field(
        default=HoleRule.read_from,
        description="Whether the white (`luminance`) or the transparent part (`alpha`) of the mask is the hole. "
        "`auto`: the transparent part of a photo or of a dark mask, otherwise the white one. Where both may be the "
        "hole, the mask is refused.",
    )
    mask_resize: bool = Field(
        default=HoleRule.resize,
        description="A mask of another size is resized, if its proportions are the image's within a pixel of each "
        "side.",
    )
    mask_invert: bool = Field(default=False, description="The dark part of the mask is the hole.")
    mask_dilate_pixels: int = Field(
        default=HoleRule.grow_pixels,
        ge=-MAX_GROW_PIXELS,
        le=MAX_GROW_PIXELS,
        description="The hole grows by a disc of this radius before anything else is done with it; a negative number "
        "shrinks it.",
    )
    empty_mask: Literal["error", "return"] = Field(
        default="error",
        description="What becomes of a mask that marks nothing: it is refused (`empty-hole`), or the job succeeds with "
        "the photo as its result.",
    )
    format: Literal["same", "png", "jpeg", "webp", "tiff"] = Field(
        default="same",
        description="Format of the result; `same` is the image's own; JPEG for HEIC, or PNG where JPEG would lose "
        "more; PNG for AVIF and JPEG XL. PNG, WebP and TIFF lose nothing. A JPEG of a JPEG keeps every block that the "
        "hole does not touch, bit by bit, unless `quality` is given.",
    )
    quality: int | None = Field(
        default=None,
        ge=1,
        le=100,
        description="Of a JPEG result, all of which is then compressed anew; from 90 on its colours have full "
        "resolution. Left out: the image's own if it is a JPEG, otherwise 95. The other formats lose nothing.",
    )
    preview: bool = Field(
        default=False,
        description="While the job runs, `GET /v1/jobs/{id}/preview` has a small picture of how far it is.",
    )
    priority: Priority = Field(
        default="normal", description="Jobs of a higher priority start first; within one, the oldest does."
    )
    expires_in_seconds: int | None = Field(
        default=None,
        ge=1,
        le=31_536_000,
        description="How long the job and its result are kept once it is final, instead of the service's own time; "
        "`/v1/limits` has the longest that is possible.",
    )
    start_deadline_seconds: float | None = Field(
        default=None,
        ge=0.1,
        le=604_800,
        description="The job fails (`start-deadline-exceeded`) when no worker has begun with it after so long.",
    )
    run_deadline_seconds: float | None = Field(
        default=None,
        ge=0.1,
        le=604_800,
        description="An attempt that has worked for so long is stopped and the job fails (`run-deadline-exceeded`).",
    )
    webhook_url: str | None = Field(
        default=None, min_length=8, max_length=2048, description="Where the job's events are sent, see webhooks.md."
    )
    webhook_events: tuple[WebhookEvent, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=6,
        description="Which events are sent; in a form with commas between them. Left out: the three that end a job.",
    )
    batch: str | None = Field(
        default=None,
        pattern=BATCH_NAME,
        description="The batch that the job belongs to, under a name of your own: up to 64 of `0-9A-Za-z._-`.",
    )
    batch_size: int | None = Field(
        default=None,
        ge=1,
        le=MAX_BATCH_SIZE,
        description="How many jobs the batch is to have. It is complete once that many were accepted and all have "
        "ended; further jobs are refused. The last size that was sent holds.",
    )
    metadata: dict[MetadataKey, MetadataValue] = Field(
        default={},
        max_length=MAX_METADATA,
        description="Up to 16 strings of up to 256 characters by names of up to 64, echoed back; in a form as a "
        "JSON object.",
    )


def _override(field: PresetField, description: str, **extra: Any) -> Any:
    """The pydantic field of a preset's field: None leaves it to the preset."""
    bounds: dict[str, Any] = {"ge": field.bounds.smallest, "le": field.bounds.largest} if field.bounds else {}
    return field.kind | None, Field(default=None, description=description, **bounds, **extra)


_OVERRIDES = {name: _override(field, field.description) for name, field in FIELDS.items()}
_FORMER = {
    old: _override(FIELDS[new], f"The former name of `{new}`.", json_schema_extra={"deprecated": True})
    for old, new in FORMER_NAMES.items()
}
if TYPE_CHECKING:
    _Fields = _JobFields
else:
    _Fields = create_model("_Fields", __base__=_JobFields, **_OVERRIDES, **_FORMER)


class Parameters(_Fields):
    """The parameters of one job: its own, and the preset's fields, where None is left to the preset."""

    @field_validator(*(name for name, field in FIELDS.items() if field.bounds and field.bounds.odd), check_fields=False)
    @classmethod
    def _odd(cls, value: int | None) -> int | None:
        if value is not None and value % 2 == 0:
            raise ValueError("should be odd")
        return value

    @field_validator("batch_size")
    @classmethod
    def _of_a_batch(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and not info.data.get("batch"):
            raise ValueError("should come with `batch`")
        return value

    @property
    def hole_rule(self) -> HoleRule:
        """How the hole is made from the mask or from the image's alpha."""
        return HoleRule(
            threshold=self.mask_threshold,
            invert=self.mask_invert,
            grow_pixels=self.mask_dilate_pixels,
            read_from=self.mask_from,
            resize=self.mask_resize,
            may_be_empty=self.empty_mask == "return",
        )

    def overrides(self) -> dict[str, Any]:
        """The preset's fields that were set, by name; under their present name if the former one was used."""
        given = self.model_dump(include={*FIELDS, *FORMER_NAMES}, exclude_none=True)
        former = {new: given.pop(old) for old, new in FORMER_NAMES.items() if old in given}
        return former | given

    @classmethod
    def from_fields(cls, fields: Mapping[str, str]) -> Parameters:
        """Parameters out of the text fields of a form.

        Raises InvalidParameters with every wrong field in its `errors`.
        """
        members: dict[str, Any] = dict(fields)
        _warn_of_former_names(*members.keys() & FORMER_NAMES)
        if "webhook_events" in members:
            members["webhook_events"] = [word.strip() for word in members["webhook_events"].split(",")]
        if "metadata" in members:
            # What is no JSON stays a string, which is refused for not being an object.
            with contextlib.suppress(ValueError, RecursionError):
                members["metadata"] = json.loads(members["metadata"])
        try:
            return cls.model_validate(members, extra="forbid")
        except ValidationError as error:
            raise _invalid(error, ("image", "mask")) from None

    @classmethod
    def from_json(cls, members: Mapping[str, Any]) -> Parameters:
        """Parameters out of the members of a JSON object, whose kinds have to be right: no "7" for 7.

        Raises InvalidParameters with every wrong field in its `errors`.
        """
        _warn_of_former_names(*members.keys() & FORMER_NAMES)
        try:
            return cls.model_validate_json(json.dumps(members), strict=True, extra="forbid")
        except ValidationError as error:
            raise _invalid(error, ("image_url", "mask_url")) from None


@cache  # one warning per process
def _warn_of_former_names(*names: str) -> None:
    for name in names:
        log.warning("clients send the parameter %r, which is called %r now", name, FORMER_NAMES[name])


def _invalid(error: ValidationError, files: tuple[str, ...]) -> InvalidParameters:
    names = (*files, *(name for name in Parameters.model_fields if name not in FORMER_NAMES))
    found = error.errors(include_url=False)
    # A request may have a million unknown fields, and names are looked for only for those that are shown.
    wrong = [field_error(item, names if place < MAX_FIELD_ERRORS else ()) for place, item in enumerate(found)]
    strange = any(item["type"] == "extra_forbidden" for item in found)
    return InvalidParameters.of(wrong, f" The fields are {', '.join(names)}." if strange else "")


def field_error(item: Any, names: Sequence[str]) -> FieldError:
    """One of pydantic's findings in our words, the client's value left out. names: of the fields that there are."""
    name = str(item["loc"][0])[:64] if item["loc"] else "body"
    if item["type"] == "extra_forbidden":
        near = difflib.get_close_matches(name, names, 1)
        hint = f" (is it {near[0]}?)" if near else ""
        return FieldError(field=name, message=f"there is no such field{hint}", code="unknown-field")
    if item["type"] != "value_error" and len(item["loc"]) == 1 and (known := _no_such_number(name)):
        return known
    return FieldError(field=name, message=str(item["msg"]).removeprefix("Value error, ").removeprefix("Input "))


@cache
def _no_such_number(name: str) -> FieldError | None:
    """What is wrong with a value that is not allowed for a number; None for a field of another kind."""
    schema = _schemas().get(name, {})
    choices = [choice for choice in schema.get("anyOf", [schema]) if "minimum" in choice]
    if not choices:
        return None
    whole, least, most = choices[0]["type"] == "integer", choices[0]["minimum"], choices[0]["maximum"]
    return FieldError(
        field=name,
        message=f"should be a {'whole number' if whole else 'number'} from {least:g} to {most:.12g}",
        code="whole-number" if whole else "number",
        minimum=least,
        maximum=most,
    )


@cache
def _schemas() -> dict[str, Any]:
    return Parameters.model_json_schema()["properties"]  # type: ignore[no-any-return]
