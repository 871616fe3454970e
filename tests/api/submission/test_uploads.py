"""What is accepted, what is refused, and that a refusal leaves nothing behind."""

import io
import resource
import socket
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from api.submission import receive
from images.hole import read_mask, unpack_hole
from jobs.blobs import STAGING, BlobMissing, Blobs
from tests import support

PNG, MASK = support.as_file(support.pixels()), support.as_file(support.hole())


def bomb(side=50_000):
    """A PNG whose header promises 2.5 gigapixels, complete down to its last chunk."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def left_behind(service):
    """What of a job is in Redis, among the blobs and among staged files."""
    staged = Path(service.settings.blobs_url.removeprefix("file://")) / STAGING
    return [*service.redis.scan_iter("*"), *service.blobs.job_ids(), *staged.glob("*")]


def with_alpha(channel):
    rgba = support.pixels(channels=4)
    rgba[..., 3] = channel
    return support.as_file(rgba)


CASES = {
    "text": ({"image": b"hello, I am no image"}, {}, 415, "not-an-image"),
    "empty": ({"image": b""}, {}, 415, "not-an-image"),
    "gif": ({"image": support.as_file(support.hole(), "gif")}, {}, 415, "unsupported-format"),
    "truncated": ({"image": PNG[:-40]}, {}, 422, "broken-image"),
    "truncated jpeg": ({"image": support.as_file(support.pixels(), "jpeg")[:-90]}, {}, 422, "broken-image"),
    "broken mask": ({"mask": MASK[: len(MASK) // 2]}, {}, 422, "broken-image"),
    "mask is text": ({"mask": b"white"}, {}, 415, "not-an-image"),
    "mask of another size": (
        {"mask": support.as_file(support.hole(80, 96, (1, 1, 9, 9)))},
        {},
        422,
        "size-mismatch",
    ),
    "empty hole": ({"mask": support.as_file(np.full((80, 96), 127, np.uint8))}, {}, 422, "empty-hole"),
    "all hole": (
        {"mask": support.as_file(np.full((80, 96), 128, np.uint8))},
        {},
        422,
        "hole-covers-everything",
    ),
    "all hole when inverted": (
        {"mask": support.as_file(np.zeros((80, 96), np.uint8))},
        {"mask_invert": "true"},
        422,
        "hole-covers-everything",
    ),
    "bomb": ({"image": bomb()}, {}, 413, "too-many-pixels"),
    "bomb as mask": ({"mask": bomb()}, {}, 413, "too-many-pixels"),
    "pixels": ({"image": support.as_file(np.zeros((317, 316, 3), np.uint8))}, {}, 413, "too-many-pixels"),
    "no mask": ({"mask": None}, {}, 422, "missing-mask"),
    "opaque alpha": ({"image": with_alpha(128), "mask": None}, {}, 422, "empty-hole"),
    "transparent": ({"image": with_alpha(127), "mask": None}, {}, 422, "hole-covers-everything"),
    "no image": ({"image": None}, {}, 422, "missing-image"),
    "unknown field": ({}, {"colour": "red"}, 422, "invalid-parameters"),
    "bad value": ({}, {"iterations": "many"}, 422, "invalid-parameters"),
    "webp too long": (
        {
            "image": support.as_file(np.zeros((2, 16_400), np.uint8)),
            "mask": support.as_file(support.hole(16_400, 2, (9, 0, 99, 2))),
        },
        {"format": "webp"},
        422,
        "format-cannot-hold",
    ),
    "bytes": ({"image": PNG + bytes(500_000)}, {}, 413, "upload-too-large"),
}


@pytest.mark.parametrize("case", CASES)
def test_refusals_say_why_and_leave_nothing(case, api, service):
    files, fields, status, code = CASES[case]
    before = left_behind(service)
    files = {"image": PNG, "mask": MASK, **files}
    sent = {name: (f"{name}.png", data) for name, data in files.items() if data is not None}
    answer = api.post("/v1/jobs", files=sent, data=fields)
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["status"]) == (status, code, status)
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["instance"] == "/v1/jobs"
    assert len(problem["detail"]) > 20
    assert left_behind(service) == before == []


def test_a_size_mismatch_names_both_sizes(api):
    files = support.form(mask=support.as_file(support.hole(80, 96, (1, 1, 9, 9))))
    detail = api.post("/v1/jobs", files=files).json()["detail"]
    assert "96 x 80" in detail
    assert "80 x 96" in detail


@pytest.mark.parametrize("format", ["png", "jpeg", "webp", "tiff"])
def test_formats_are_told_by_content_not_by_name(api, service, format):
    image = support.as_file(support.pixels(), format)
    mask = support.as_file(support.hole(), format)
    files = {"image": ("photo.gif", image, "text/plain"), "mask": ("mask", mask, "image/gif")}
    answer = api.post("/v1/jobs", files=files)
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert job["input"]["format"] == format
    assert (job["input"]["width"], job["input"]["height"]) == (96, 80)
    assert service.blobs.get(job["id"], "image") == image
    assert (unpack_hole(service.blobs.get(job["id"], "hole")) == read_mask(mask)).all()
    with pytest.raises(BlobMissing):
        service.blobs.get(job["id"], "mask")


def test_exif_orientation_is_applied_to_image_and_mask_alike(api):
    turned = Image.Exif()
    turned[0x0112] = 6
    image = support.as_file(support.pixels(), "jpeg", exif=turned)
    upright = support.as_file(support.hole(80, 96, (20, 30, 50, 70)))
    answer = api.post("/v1/jobs", files=support.form(image, upright))
    assert (answer.json()["input"]["width"], answer.json()["input"]["height"]) == (80, 96)
    lying = support.as_file(support.hole(), "jpeg", exif=turned)
    assert api.post("/v1/jobs", files=support.form(image, lying)).status_code == 202
    assert api.post("/v1/jobs", files=support.form(image)).json()["code"] == "size-mismatch"


def test_alpha_is_the_hole_when_there_is_no_mask(api):
    rgba = support.pixels(channels=4)
    rgba[10:30, 10:50, 3] = 0
    job = api.post("/v1/jobs", files=support.form(support.as_file(rgba), mask=False)).json()
    assert job["input"]["mask_source"] == "alpha"
    assert job["input"]["hole_fraction"] == pytest.approx(20 * 40 / (96 * 80))


def test_inverting_the_mask_makes_the_rest_the_hole(api):
    plain = api.post("/v1/jobs", files=support.form()).json()["input"]["hole_fraction"]
    other = api.post("/v1/jobs", files=support.form(), data={"mask_invert": "yes"}).json()
    assert other["input"]["hole_fraction"] == pytest.approx(1 - plain)
    assert other["parameters"]["mask_invert"] is True


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("C:\\Users\\me\\beach.png", "beach.png"),
        ("../../etc/passwd", "passwd"),
        ("a\tb\x7f.png", "ab.png"),
        ("x" * 300, "x" * 100),
    ],
)
def test_only_a_harmless_part_of_the_file_name_is_kept(api, sent, kept):
    job = api.post("/v1/jobs", files=support.form(name=sent)).json()
    assert job["input"]["name"] == kept.replace("ab.png", job["input"]["name"])
    assert "\t" not in job["input"]["name"]


@pytest.mark.parametrize(
    ("body", "content_type", "status", "code"),
    [
        (b"a=1", "application/x-www-form-urlencoded", 415, "unsupported-media-type"),
        (b"{}", "text/json", 415, "unsupported-media-type"),
        (b"{}", "application/json", 422, "missing-image"),
        (b"", "application/json", 400, "malformed-request"),
        (b"[]", "application/json", 400, "malformed-request"),
        (b'{"image_url": "x", "image_url": "x"}', "application/json", 400, "malformed-request"),
        (b'{"image_url": "x", "context": NaN}', "application/json", 400, "malformed-request"),
        (b'{"\\ud800": 1}', "application/json", 400, "malformed-request"),
        (b"[" * 100_000, "application/json", 400, "malformed-request"),
        (b'{"image_url": 7}', "application/json", 422, "invalid-parameters"),
        (b'{"image_url": "x", "iterations": "7"}', "application/json", 422, "invalid-parameters"),
        (b'{"image_url": "x", "image": "x"}', "application/json", 422, "invalid-parameters"),
        (b"", "", 415, "unsupported-media-type"),
        (b"abc", "multipart/form-data", 400, "malformed-request"),
        (b"abc", "multipart/form-data; boundary=x", 400, "malformed-request"),
        (
            b"--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n--x--\r\n",
            "multipart/form-data; boundary=x",
            400,
            "malformed-request",
        ),
    ],
)
def test_bodies_that_are_no_form(api, service, body, content_type, status, code):
    headers = {"content-type": content_type} if content_type else {}
    answer = api.post("/v1/jobs", content=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert left_behind(service) == []


@pytest.mark.parametrize(
    ("files", "field"),
    [
        ([("image", ("a", PNG)), ("image", ("b", PNG)), ("mask", ("m", MASK))], "image"),
        ([("image", ("a", PNG)), ("photo", ("b", PNG))], "photo"),
        ([("image", ("a", PNG)), ("iterations", ("b", b"1"))], "iterations"),
        ([("image", (None, b"not a file"))], "image"),
    ],
)
def test_parts_that_do_not_belong(api, files, field):
    problem = api.post("/v1/jobs", files=files).json()
    assert problem["code"] == "invalid-parameters"
    assert [wrong["field"] for wrong in problem["errors"]] == [field]


def test_repeated_fields_are_refused(api):
    problem = api.post("/v1/jobs", files=support.form(), data={"iterations": ["3", "4"]}).json()
    assert problem["errors"] == [{"field": "iterations", "message": "is there more than once"}]


def test_a_body_that_hides_its_length_is_cut_off(api, service):
    def endless():
        yield b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
        for _ in range(40):
            yield bytes(50_000)

    headers = {"content-type": "multipart/form-data; boundary=x"}
    answer = api.post("/v1/jobs", content=endless(), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (413, "upload-too-large")
    assert left_behind(service) == []


def test_a_client_that_waits_before_it_sends_is_told_at_once(api):
    """As curl does with large files: it must be told without having sent a byte of them."""
    with socket.create_connection((api.base_url.host, api.base_url.port), timeout=20) as raw:
        raw.sendall(
            b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 99999999\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
        )
        answer = io.BytesIO()
        while piece := raw.recv(65536):
            answer.write(piece)
    assert answer.getvalue().startswith(b"HTTP/1.1 413 ")
    assert b"upload-too-large" in answer.getvalue()


def test_a_client_that_goes_away_leaves_nothing(api, service, monkeypatch):
    monkeypatch.setattr(receive, "PIECE_BYTES", 1000)
    with socket.create_connection((api.base_url.host, api.base_url.port), timeout=20) as raw:
        raw.sendall(
            b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 400000\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n"
            b'Content-Disposition: form-data; name="image"; filename="a"\r\n\r\n' + PNG
        )
        support.wait_until(lambda: left_behind(service), what="the beginning of its upload")
    support.wait_until(lambda: not left_behind(service), what="nothing being left of it")
    assert api.get("/livez").status_code == 200


def test_an_accepted_upload_is_renamed_and_not_copied(api, service, monkeypatch):
    put, really = [], Blobs.put
    monkeypatch.setattr(Blobs, "put", lambda self, *what: put.append(what[1]) or really(self, *what))
    job = api.post("/v1/jobs", files=support.form()).json()
    assert service.blobs.get(job["id"], "image") == PNG
    assert put == ["hole"]
    assert left_behind(service)
    service.blobs.delete(job["id"])
    service.redis.flushdb()
    assert left_behind(service) == []


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/plans"])
def test_a_disk_that_takes_no_upload_answers_503(api, service, path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(PNG) // 2, limits[1]))
    try:
        answer = api.post(path, files=support.form())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (answer.status_code, answer.json()["code"]) == (503, "service-unavailable")
    assert left_behind(service) == []
