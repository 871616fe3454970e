"""Pictures behind URLs."""

import base64

import pytest

from tests import support


def data_url(data: bytes) -> str:
    return "data:application/octet-stream;base64," + base64.b64encode(data).decode()


@pytest.mark.parametrize(
    ("format", "media_type"),
    [("png", "image/png"), ("jpeg", "image/jpeg"), ("webp", "image/webp"), ("avif", "image/avif")],
)
def test_a_picture_comes_as_it_is_under_its_own_type(api, format, media_type):
    file = support.as_file(support.pixels(), format)
    answer = api.post("/v1/images", json={"image_url": data_url(file)})
    assert answer.status_code == 200
    assert answer.content == file
    assert answer.headers["content-type"] == media_type
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-disposition"] == "attachment"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"image_url": data_url(b"<html><script>alert(1)</script>")}, 415, "not-an-image"),
        ({"image_url": data_url(b"")}, 415, "not-an-image"),
        ({"image_url": "http://127.0.0.1/a.png"}, 422, "url-not-allowed"),
        ({"image_url": "file:///etc/passwd"}, 422, "url-not-allowed"),
        ({"image_url": "data:image/png;base64,!"}, 422, "fetch-failed"),
        ({"image_url": ""}, 422, "invalid-parameters"),
        ({"image_url": 7}, 422, "invalid-parameters"),
        ({"image_url": "data:,a", "mask_url": "data:,a"}, 422, "invalid-parameters"),
        ({}, 422, "invalid-parameters"),
    ],
)
def test_what_is_no_picture_is_refused(api, body, status, code):
    answer = api.post("/v1/images", json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
