"""Images of Pillow's and arrays through the client: the service's answer is of the photo's kind."""

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from lama_refinery_client.pictures import as_file, like
from tests import support

PHOTO, HOLE = support.pixels(), support.hole() > 0


def check(result):
    assert np.array_equal(result[~HOLE], PHOTO[~HOLE])
    assert (result[HOLE] != PHOTO[HOLE]).any()


def test_an_array_gives_an_array_and_an_image_an_image(connect, refinery):
    client = connect(refinery)
    array = client.inpaint(PHOTO, HOLE, preset="single-pass")
    assert (type(array), array.dtype, array.shape) == (np.ndarray, np.uint8, PHOTO.shape)
    check(array)
    given = Image.fromarray(PHOTO)
    given.info["dpi"] = (300, 300)
    image = client.inpaint(given, Image.fromarray(support.hole()), preset="single-pass")
    assert (image.mode, image.info) == ("RGB", {"dpi": (300, 300)})
    check(np.asarray(image))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "CMYK", "RGBA", "I;16"])
def test_images_travel_without_loss(mode):
    given = Image.fromarray(PHOTO[..., 0].astype(np.uint16) * 257) if mode == "I;16" else None
    given = given or Image.fromarray(PHOTO).convert(mode)
    back = like(given, as_file(given, "image"))
    assert back.mode == (mode if mode in ("L", "LA", "RGBA", "I;16") else "RGB")
    assert np.array_equal(np.asarray(back), np.asarray(given.convert(back.mode)))


def test_an_orientation_does_not_turn_what_the_caller_sees():
    given = Image.fromarray(PHOTO)
    exif = given.getexif()
    exif[274] = 6
    given.info["exif"] = exif.tobytes()
    sent = Image.open(io.BytesIO(as_file(given, "image")))
    assert sent.getexif().get(274) is None
    assert like(given, as_file(given, "image")).info["exif"] == given.info["exif"]


def test_what_is_no_picture_stays_as_it_is():
    assert as_file(b"bytes", "image") == b"bytes"
    assert like("photo.jpg", b"bytes") == b"bytes"
    with pytest.raises(TypeError, match="as a file"):
        as_file(PHOTO.astype(np.uint16), "image")
    with pytest.raises(TypeError, match="image should be"):
        as_file(HOLE, "image")


def test_the_client_itself_loads_neither_library():
    code = "import sys, lama_refinery_client; print(*{'PIL', 'numpy'} & set(sys.modules))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.split() == []
