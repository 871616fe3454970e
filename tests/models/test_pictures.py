"""`models.inpaint` with photos and masks of every kind: what comes back is of the photo's kind."""

import numpy as np
import pytest
import torch
from PIL import Image

from images.errors import EmptyHole, MissingMask
from models import inpaint
from models.networks.lama.model import Lama, LamaConfig
from tests import support

PHOTO, HOLE = support.pixels(), support.hole() > 0
SINGLE = {"preset": "single-pass"}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    yield from support.one_thread()


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(1)
    return Lama(LamaConfig(4, 3, 1, 24), name="tiny").eval().requires_grad_(False)


@pytest.fixture(scope="module")
def filled(tiny):
    """What arrays give, which every other kind has to give too."""
    return inpaint(PHOTO, HOLE, network=tiny, **SINGLE).image


@pytest.fixture(params=["array", "pillow", "path", "text"])
def mask(request, tmp_path):
    picture = Image.fromarray(support.hole())
    picture.save(tmp_path / "mask.png")
    kinds = {"array": HOLE, "pillow": picture, "path": tmp_path / "mask.png", "text": str(tmp_path / "mask.png")}
    return kinds[request.param]


def test_an_array_gives_an_array(tiny, filled, mask):
    result = inpaint(PHOTO, mask, network=tiny, **SINGLE)
    assert np.array_equal(result.image, filled)


def test_an_image_of_pillows_gives_one_of_its_mode(tiny, filled, mask):
    given = Image.fromarray(PHOTO)
    given.info["dpi"] = (300, 300)
    result = inpaint(given, mask, network=tiny, **SINGLE)
    assert (result.image.mode, result.image.info) == ("RGB", {"dpi": (300, 300)})
    assert np.array_equal(np.asarray(result.image), filled)
    assert np.array_equal(np.asarray(given), PHOTO)
    assert (result.report()["width"], result.report()["height"]) == given.size


def test_a_path_gives_the_path_of_its_result(tiny, filled, mask, tmp_path):
    (tmp_path / "photo.png").write_bytes(support.as_file(PHOTO))
    result = inpaint(tmp_path / "photo.png", mask, output=str(tmp_path / "out.tif"), network=tiny, **SINGLE)
    assert result.image == tmp_path / "out.tif"
    with Image.open(result.image) as written:
        assert written.format == "TIFF"
        assert np.array_equal(np.asarray(written), filled)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "CMYK", "RGBA", "I;16"])
def test_other_modes(tiny, mode):
    if mode == "I;16":
        given = Image.fromarray(PHOTO[..., 0].astype(np.uint16) * 257)
    else:
        given = Image.fromarray(PHOTO).convert(mode)
    result = inpaint(given, HOLE, network=tiny, **SINGLE).image
    assert result.mode == (mode if mode in ("L", "LA", "RGBA", "I;16") else "RGB")
    before, after = (np.asarray(image.convert(result.mode)) for image in (given, result))
    assert np.array_equal(before[~HOLE], after[~HOLE])
    assert not np.array_equal(before[HOLE], after[HOLE])


def test_without_a_mask_the_transparent_part_is_the_hole_and_becomes_opaque(tiny):
    seen = np.dstack([PHOTO, np.where(HOLE, 0, 255).astype(np.uint8)])
    array = inpaint(seen, network=tiny, **SINGLE).image
    picture = inpaint(Image.fromarray(seen), network=tiny, **SINGLE).image
    assert array[..., 3].min() == 255
    assert np.array_equal(np.asarray(picture), array)
    with pytest.raises(MissingMask):
        inpaint(Image.fromarray(PHOTO), network=tiny)


def test_what_is_refused(tiny, tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(support.as_file(PHOTO))
    with pytest.raises(ValueError, match="say where the result of a path goes"):
        inpaint(path, HOLE, network=tiny)
    with pytest.raises(ValueError, match="given by their path"):
        inpaint(PHOTO, HOLE, output=tmp_path / "out.png", network=tiny)
    with pytest.raises(ValueError, match=r"suffix of output.*\.gif"):
        inpaint(path, HOLE, output=tmp_path / "out.gif", network=tiny)
    with pytest.raises(FileNotFoundError):
        inpaint(path, tmp_path / "none.png", output=tmp_path / "out.png", network=tiny)
    with pytest.raises(EmptyHole):
        inpaint(path, Image.new("L", (96, 80)), output=tmp_path / "out.png", network=tiny)
    with pytest.raises(ValueError, match="convert it to I;16"):
        inpaint(Image.fromarray(PHOTO[..., 0].astype(np.float32)), HOLE, network=tiny)
    with pytest.raises(ValueError, match="float32 photo needs a mask"):
        inpaint(np.zeros((80, 96, 4), np.float32), network=tiny)
    assert not (tmp_path / "out.png").exists()
