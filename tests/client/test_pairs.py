"""Which photos, masks and results belong together."""

from pathlib import Path

import pytest

from lama_refinery_client.cli.pairs import PairsError, find_pairs


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make(*names):
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"")


def found(*arguments, masks=None, output="out", form="png"):
    return [
        (str(pair.photo), None if pair.mask is None else str(pair.mask), str(pair.output))
        for pair in find_pairs(arguments, None if masks is None else Path(masks), Path(output), form)
    ]


def test_a_folder_with_masks_beside_the_photos(folder):
    make("in/a.jpg", "in/a_mask.png", "in/sub/b.png", "in/sub/b_mask001.png", "in/sub/b_mask002.png", "in/notes.txt")
    assert found("in") == [
        ("in/a.jpg", "in/a_mask.png", "out/a.png"),
        ("in/sub/b.png", "in/sub/b_mask001.png", "out/sub/b_mask001.png"),
        ("in/sub/b.png", "in/sub/b_mask002.png", "out/sub/b_mask002.png"),
    ]


def test_a_photo_without_a_mask_has_its_hole_in_its_transparency(folder):
    make("in/a.png", "in/gas_mask.png")
    assert found("in") == [("in/a.png", None, "out/a.png"), ("in/gas_mask.png", None, "out/gas_mask.png")]


def test_a_folder_of_masks(folder):
    make("in/a.jpg", "in/sub/b.jpg", "in/c.jpg", "masks/a.png", "masks/sub/b_mask.png")
    pairs = find_pairs(["in"], Path("masks"), Path("out"), "same")
    assert [(pair.name, str(pair.mask), pair.problem) for pair in pairs] == [
        ("a.jpg", "masks/a.png", None),
        ("c.jpg", "None", "masks has no mask for it"),
        ("sub/b.jpg", "masks/sub/b_mask.png", None),
    ]
    assert [str(pair.output) for pair in pairs] == ["out/a.jpg", "out/c.jpg", "out/sub/b.jpg"]


def test_one_mask_for_all_and_patterns(folder):
    make("a.jpg", "b.jpg", "dust.png")
    assert found("*.jpg", masks="dust.png") == [
        ("a.jpg", "dust.png", "out/a.png"),
        ("b.jpg", "dust.png", "out/b.png"),
    ]


def test_a_picture_named_twice_is_done_once(folder):
    make("in/a.jpg")
    assert len(found("in/a.jpg", "in/a.jpg", "in")) == 1


def test_results_of_one_name_are_kept_apart(folder):
    make("in/a.jpg", "in/a.png")
    assert [output for *_, output in found("in")] == ["out/a.jpg.png", "out/a.png.png"]


def test_a_result_whose_format_its_photo_decides_is_named_by_it(folder):
    make("in/a.heic", "in/b.HEIC", "in/b.png", "in/c.avif")
    pairs = find_pairs(["in"], None, Path("out"), "same")
    assert [str(pair.output_as("jpeg")) for pair in pairs] == [
        "out/a.jpg",
        "out/b.HEIC.jpg",
        "out/b.png.png",
        "out/c.jpg",
    ]
    assert [str(pair.output_as("png")) for pair in pairs][::3] == ["out/a.png", "out/c.png"]
    assert all(pair.output in pair.outputs() for pair in pairs)
    (alone,) = find_pairs(["in/a.heic"], None, Path("b.jpg"), "same")
    assert str(alone.output_as("png")) == "b.jpg"


def test_results_inside_the_folder_are_no_photos(folder):
    make("in/a.jpg", "in/out/a.png")
    assert found("in", output="in/out") == [("in/a.jpg", None, "in/out/a.png")]


def test_a_single_picture_may_go_into_a_file(folder):
    make("a.jpg", "m.png")
    assert found("a.jpg", masks="m.png", output="b.webp") == [("a.jpg", "m.png", "b.webp")]


@pytest.mark.parametrize(
    ("arguments", "masks", "output", "words"),
    [
        (["none.jpg"], None, "out", "none.jpg: there is no such file"),
        (["in"], "none.png", "out", "--masks none.png: there is no such"),
        (["empty"], None, "out", "there is no picture in empty"),
        (["in"], None, "out.png", "2 pictures need a folder"),
    ],
)
def test_arguments_that_name_no_work(folder, arguments, masks, output, words):
    make("in/a.jpg", "in/b.jpg", "empty/notes.txt")
    with pytest.raises(PairsError, match=words.replace(".", r"\.")):
        found(*arguments, masks=masks, output=output)
