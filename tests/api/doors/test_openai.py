"""OpenAI's own clients fill holes here."""

import asyncio
import base64

import httpx
import numpy as np
import openai
import pytest

from tests import support

PHOTO = support.pixels()
HOLE = support.hole()
FAST = {"extra_body": support.FAST}


@pytest.fixture
def client(doors):
    with openai.OpenAI(base_url=f"{doors.url}/v1", api_key=doors.key, max_retries=0) as made:
        yield made


def photo():
    return "photo.png", support.as_file(PHOTO), "image/png"


def mask():
    """Opaque black, and transparent where the hole is."""
    drawn = np.zeros((*HOLE.shape, 4), np.uint8)
    drawn[..., 3] = 255 - HOLE
    return "mask.png", support.as_file(drawn), "image/png"


def check(data):
    """A result: the photo outside the hole, something else in it."""
    result = support.opened(data)
    assert np.array_equal(result[HOLE == 0], PHOTO[HOLE == 0])
    assert (result[HOLE > 0] != PHOTO[HOLE > 0]).any()


def test_edit(client):
    answer = client.images.with_raw_response.edit(
        image=photo(), mask=mask(), prompt="an empty beach", model="gpt-image-1", n=1, size="1024x1024", **FAST
    )
    assert answer.headers["x-ignored-parameters"] == "prompt, size, model"
    found = answer.parse()
    (picture,) = found.data
    data = base64.b64decode(picture.b64_json)
    check(data)
    assert (found.output_format, found.size) == ("png", "96x80")
    # Without a response format there is a URL too, which needs no key.
    assert httpx.get(picture.url).content == data
    assert httpx.get(picture.url[:-1] + "!").status_code == 404


def test_the_transparent_part_of_a_photo_without_a_mask_is_the_hole(client):
    seen = np.dstack([PHOTO, 255 - HOLE])
    (picture,) = client.images.edit(
        image=[("photo.png", support.as_file(seen))],
        prompt="",
        response_format="b64_json",
        output_format="webp",
        model="auto",
        size="auto",
        **FAST,
    ).data
    assert picture.url is None
    assert base64.b64decode(picture.b64_json)[8:12] == b"WEBP"


def test_async(doors):
    async def edit():
        async with openai.AsyncOpenAI(base_url=f"{doors.url}/v1", api_key=doors.key) as client:
            return await client.images.edit(
                image=photo(),
                mask=mask(),
                prompt="",
                response_format="url",
                output_format="jpeg",
                output_compression=40,
                **FAST,
            )

    (picture,) = asyncio.run(edit()).data
    assert picture.b64_json is None
    answer = httpx.get(picture.url)
    assert answer.headers["content-type"] == "image/jpeg"
    assert support.opened(answer.content).shape == PHOTO.shape


def test_models(client):
    names = [model.id for model in client.models.list()]
    assert client.models.retrieve(names[0]).owned_by == "lama-refinery"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-5")
    client.images.edit(image=photo(), mask=mask(), prompt="", model=names[0], **FAST)


@pytest.mark.parametrize(
    ("fields", "param", "says"),
    [
        ({"n": 2}, "n", "should be 1"),
        ({"output_format": "gif"}, "output_format", "png or jpeg or webp"),
        ({"response_format": "file"}, "response_format", "url or b64_json"),
        ({"extra_body": {"steps": "3"}}, "steps", "no such field"),
        ({"mask": ("mask.png", support.as_file(HOLE))}, None, "alpha"),
        ({"image": [photo(), photo()]}, "image", "one file"),
    ],
)
def test_what_cannot_be_done_is_refused_in_their_shape(client, fields, param, says):
    with pytest.raises(openai.BadRequestError) as refused:
        client.images.edit(**{"image": photo(), "mask": mask(), "prompt": "", **fields})
    assert refused.value.param == param
    assert refused.value.type == "invalid_request_error"
    assert says in refused.value.message


def test_keys_and_limits_are_this_services(doors, client):
    with pytest.raises(openai.AuthenticationError, match="No such API key") as refused:
        client.with_options(api_key="sk-other").images.edit(image=photo(), prompt="")
    assert refused.value.code == "unauthorized"
    # Refused by its declared length, before any route has seen it.
    with pytest.raises(openai.APIStatusError, match="upload is") as refused:
        client.images.edit(image=bytes(5_000_000), prompt="")
    assert (refused.value.status_code, refused.value.code) == (413, "upload-too-large")
    with pytest.raises(openai.APIStatusError) as refused:
        client.post("/images/edits", body={}, cast_to=object)
    assert (refused.value.status_code, refused.value.code) == (400, "unsupported-media-type")


def test_a_job_whose_client_has_gone_is_canceled(doors, client):
    many = {"image": support.as_file(support.pixels(192, 192)), "prompt": "", "timeout": 2}
    drawn = np.zeros((192, 192, 4), np.uint8)
    drawn[..., 3] = 255 - support.hole(192, 192, (60, 60, 120, 110))
    with pytest.raises(openai.APITimeoutError):
        client.images.edit(mask=support.as_file(drawn), extra_body=support.MANY_STEPS, **many)

    def newest():
        return httpx.get(f"{doors.url}/v1/jobs", headers=doors.headers, params={"limit": 1}).json()["jobs"][0]

    support.wait_until(lambda: newest()["status"] == "canceled", what="the cancel")


def test_for_node(doors, node, tmp_path):
    (tmp_path / "photo.png").write_bytes(photo()[1])
    (tmp_path / "mask.png").write_bytes(mask()[1])
    printed = node(
        "openai.mjs",
        BASE_URL=f"{doors.url}/v1",
        KEY=doors.key,
        PHOTO=str(tmp_path / "photo.png"),
        MASK=str(tmp_path / "mask.png"),
    )
    check(base64.b64decode(printed))
