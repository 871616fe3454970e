"""The parameters of the REST api, their errors, and that they are those of the presets."""

import logging

import pytest

from images import errors as image_errors
from jobs.errors import InvalidParameters, Problem, RefineryError, problem_of
from jobs.parameters import Parameters
from models import PRESETS, PresetError, resolve_preset
from models.planning.presets import FIELDS
from tests import support


def wrong_fields(**fields):
    with pytest.raises(InvalidParameters) as caught:
        Parameters.from_fields(fields)
    return {error.field: error.message for error in caught.value.errors}


def test_fields_of_a_form_are_read():
    read = Parameters.from_fields(
        {"preset": "reference", "iterations": "7", "learning_rate": "5e-3", "mask_invert": "true"}
    )
    assert read.overrides() == {"iterations": 7, "learning_rate": 0.005}
    assert (read.preset, read.mask_invert, read.network) == ("reference", True, "auto")


def test_lists_and_objects_in_a_form_are_text():
    read = Parameters.from_fields({"webhook_events": "job.failed, job.started", "metadata": '{"order": "7"}'})
    assert read.webhook_events == ("job.failed", "job.started")
    assert read.metadata == {"order": "7"}


@pytest.mark.parametrize(
    "text", ["[]", "x", '{"a": 1}', '{"": "x"}', '{"a": "' + "x" * 257 + '"}', str({f"k{n}": "" for n in range(17)})]
)
def test_metadata_that_is_none(text):
    assert set(wrong_fields(metadata=text)) == {"metadata"}


def test_members_of_a_json_object_have_their_kinds():
    members = {"iterations": 7, "context": 1, "mask_invert": True, "webhook_events": ["job.failed"], "min_side": None}
    read = Parameters.from_json({**members, "metadata": {"order": "7"}})
    assert (read.iterations, read.context, read.mask_invert, read.min_side) == (7, 1.0, True, None)
    for wrong in ({"iterations": "7"}, {"mask_invert": "true"}, {"metadata": "{}"}, {"webhook_events": "job.failed"}):
        with pytest.raises(InvalidParameters):
            Parameters.from_json(wrong)


def test_every_wrong_field_is_named():
    wrong = wrong_fields(iterations="0", erosion="4", preset="best", colour="red", min_side="x", context="nan")
    assert set(wrong) == {"iterations", "erosion", "preset", "colour", "min_side", "context"}
    assert wrong["colour"] == "there is no such field"
    assert wrong["erosion"] == "should be odd"
    assert wrong["iterations"] == "should be a whole number from 1 to 200"
    assert wrong["context"] == "should be a number from 0.1 to 4"
    assert wrong_fields(itterations="5")["itterations"] == "there is no such field (is it iterations?)"


def test_programs_can_read_what_a_number_may_be():
    with pytest.raises(InvalidParameters) as caught:
        Parameters.from_fields({"min_side": "x", "colour": "red", "preset": "best"})
    told = {error["field"]: error for error in problem_of(caught.value).as_json()["errors"]}
    number = told["min_side"]
    assert (number["code"], number["minimum"], number["maximum"]) == ("whole-number", 64, 4096)
    assert told["colour"] == {"field": "colour", "message": "there is no such field", "code": "unknown-field"}
    assert told["preset"].keys() == {"field", "message"}


def test_the_presets_are_those_there_are():
    assert set(Parameters.model_json_schema()["properties"]["preset"]["enum"]) == set(PRESETS)


def test_the_manual_describes_every_field_of_a_preset():
    manual = (support.ROOT / "docs" / "api.md").read_text()
    for name, field in FIELDS.items():
        values = field.values() if field.bounds else "`true`, `false`"
        assert f"| `{name}` | {values} | the preset's | {field.description} |" in manual


def test_a_former_name_works_and_is_told(caplog):
    with caplog.at_level(logging.WARNING, "jobs.parameters"):
        read = Parameters.from_fields({"reach": "0.3"})
    assert read.overrides() == {"largest_bridged_ratio": 0.3}
    assert caplog.messages == ["clients send the parameter 'reach', which is called 'largest_bridged_ratio' now"]
    stored = Parameters.model_validate_json('{"reach": 0.3, "preset": "reference"}')
    assert stored.overrides() == {"largest_bridged_ratio": 0.3}
    both = Parameters.from_json({"reach": 0.3, "largest_bridged_ratio": 0.4})
    assert both.overrides() == {"largest_bridged_ratio": 0.4}
    with pytest.raises(InvalidParameters):
        Parameters.from_fields({"reach": "5"})


@pytest.mark.parametrize("field", [name for name, field in FIELDS.items() if field.bounds])
def test_the_bounds_are_those_of_the_presets(field):
    low, high = FIELDS[field].bounds.smallest, FIELDS[field].bounds.largest
    for good in (low, high):
        text = f"{good:g}" if isinstance(low, float) else f"{int(good)}"
        taken = Parameters.from_fields({field: text}).overrides()
        assert getattr(resolve_preset("default", taken), field) == good
    beyond = (low - 1e-6, high * 2) if isinstance(low, float) else (int(low) - 2, int(high) + 2)
    for bad in beyond:
        assert field in wrong_fields(**{field: str(bad)})
        with pytest.raises(PresetError):
            resolve_preset("default", {field: bad})


def every_error(base):
    return [base, *(error for kind in base.__subclasses__() for error in every_error(kind))]


@pytest.mark.parametrize("kind", every_error(RefineryError) + every_error(image_errors.ImageError))
def test_every_error_becomes_a_problem_document(kind):
    problem = problem_of(kind("What was wrong. What to do."), instance="/v1/jobs")
    assert (problem.code, problem.status, problem.title) == (kind.code, kind.status, kind.title)
    assert problem.type.endswith(kind.code)
    document = problem.as_json()
    assert set(document) == {"type", "title", "status", "detail", "instance", "code"}
    assert Problem.model_validate(document) == problem


def test_codes_belong_to_one_error_each():
    kinds = every_error(RefineryError) + every_error(image_errors.ImageError)
    codes = [kind.code for kind in kinds if not kind.__subclasses__()]
    assert len(set(codes)) == len(codes)


def test_an_unexpected_exception_shows_nothing_of_itself():
    problem = problem_of(ValueError("/home/secret: password"))
    assert problem.code == "internal-error"
    assert "secret" not in str(problem.as_json())
    assert problem_of(MemoryError()).code == "out-of-memory"
