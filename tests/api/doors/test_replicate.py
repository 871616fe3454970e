"""Replicate's own clients fill holes here."""

import asyncio
import base64
import io
import json

import httpx
import pytest
import replicate
from replicate.exceptions import ReplicateError
from replicate.webhook import Webhooks

from tests import support
from tests.api.doors.test_openai import check
from tests.servers.receiver import receiving

MODEL = "any/model"


@pytest.fixture
def client(doors, monkeypatch):
    monkeypatch.setenv("REPLICATE_BASE_URL", doors.url)
    monkeypatch.setenv("REPLICATE_POLL_INTERVAL", "0.05")
    with_key = replicate.Client(api_token=doors.key)
    yield with_key
    with_key._client.close()


@pytest.fixture
def receiver():
    with receiving() as made:
        yield made


def file(array, name):
    made = io.BytesIO(support.as_file(array))
    made.name = name
    return made


def inputs(**changes):
    chosen = {"image": file(support.pixels(), "beach.png"), "mask": file(support.hole(), "mask.png"), **support.FAST}
    return {**chosen, "prompt": "nothing", **changes}


def data_url(array):
    return "data:image/png;base64," + base64.b64encode(support.as_file(array)).decode()


def test_run(client):
    output = client.run(MODEL, input=inputs())
    check(output.read())
    assert {"beach.png", "mask.png"} <= {kept.name for kept in client.files.list()}


def test_run_with_a_version_and_data_urls(client):
    output = client.run(f"{MODEL}:{'0' * 64}", input=inputs(), file_encoding_strategy="base64", wait=False)
    check(output.read())


def test_create_and_wait(client):
    made = client.predictions.create(version="any", input=inputs(output_format="jpg", output_quality=80))
    assert made.status == "starting"
    made.wait()
    assert made.status == "succeeded"
    assert made.output.startswith("data:image/jpeg;base64,")
    assert made.metrics["predict_time"] > 0
    assert made.progress.percentage == 1
    assert made.input == {"preset": "single-pass", "format": "jpeg", "quality": 80}
    page = client.predictions.list()
    assert page.results[0].id == made.id
    # Whoever has the link of a list needs no key.
    assert httpx.get(page.results[0].output).headers["content-type"] == "image/jpeg"
    assert made.id == client.predictions.get(made.id).id
    client.predictions.cancel(made.id)  # does nothing to one that has ended
    assert client.predictions.get(made.id).status == "succeeded"


def test_progress_and_cancel(client):
    many = inputs(preset="default", min_side=64, iterations=200, largest_bridged_ratio=0)
    many |= {"image": file(support.pixels(192, 192), "p.png"), "mask": file(support.hole(192, 192), "m.png")}
    made = client.predictions.create(version="any", input=many)

    def progress():
        made.reload()
        return made.progress and made.progress.current

    support.wait_until(progress, what="progress in the logs")
    assert "iteration" in made.logs
    made.cancel()
    made.wait()
    assert made.status == "canceled"


def test_async(client):
    async def run():
        output = await client.async_run(MODEL, input=inputs())
        try:
            return await output.aread()
        finally:
            await client._async_client.aclose()

    check(asyncio.run(run()))


def test_webhooks_are_predictions_and_signed(client, receiver):
    client.predictions.create(
        version="any", input=inputs(), webhook=receiver.url, webhook_events_filter=["start", "completed"]
    ).wait()
    support.wait_until(lambda: len(receiver.seen) >= 2, what="two webhooks")
    secret = client.webhooks.default.secret()
    for request in receiver.seen:
        Webhooks.validate(headers=dict(request.headers), body=request.body.decode(), secret=secret, tolerance=60)
    started, completed = (json.loads(request.body) for request in receiver.seen)
    assert (started["status"], started["output"]) == ("processing", None)
    assert completed["status"] == "succeeded"
    assert completed["output"].startswith("/v1/results/")  # there is no REFINERY_PUBLIC_URL


def test_files(client, doors):
    made = client.files.create(file(support.pixels(), "beach.png"), metadata={"of": "us"})
    assert (made.name, made.content_type, made.metadata) == ("beach.png", "image/png", {"of": "us"})
    assert client.files.get(made.id).checksums["sha256"]
    assert client.files.delete(made.id)
    with pytest.raises(ReplicateError, match="no such file"):
        client.files.get(made.id)
    with pytest.raises(ReplicateError, match="Upload it again"):
        client.predictions.create(version="any", input=inputs(image=made.urls["get"]))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"steps_of_mine": 3}, "no such field"),
        ({"image": None}, "no `image`"),
        ({"output_format": "gif"}, "output_format"),
        ({"image": "http://169.254.169.254/photo.png"}, "not allowed"),
    ],
)
def test_what_cannot_be_done_is_refused(client, changes, says):
    with pytest.raises(ReplicateError, match=says) as refused:
        client.predictions.create(version="any", input=inputs(**changes))
    assert refused.value.status == 422


def test_for_node(doors, node, tmp_path):
    (tmp_path / "photo.png").write_bytes(support.as_file(support.pixels()))
    (tmp_path / "mask.png").write_bytes(support.as_file(support.hole()))
    printed = node(
        "replicate.mjs",
        BASE_URL=f"{doors.url}/v1",
        KEY=doors.key,
        PHOTO=str(tmp_path / "photo.png"),
        MASK=str(tmp_path / "mask.png"),
    )
    check(base64.b64decode(printed))


def test_the_routes_of_a_models_container(doors, receiver):
    with httpx.Client(base_url=doors.url, headers=doors.headers) as cog:
        assert cog.get("/health-check").json()["status"] in ("READY", "BUSY")
        sent = {**inputs(), "image": data_url(support.pixels()), "mask": data_url(support.hole())}
        answer = cog.post("/predictions", json={"input": sent}, timeout=60).json()
        assert answer["status"] == "succeeded"
        check(base64.b64decode(answer["output"].removeprefix("data:image/png;base64,")))
        later = {"input": sent, "webhook": receiver.url, "webhook_events_filter": ["completed"]}
        answer = cog.post("/predictions", json=later, headers={"Prefer": "respond-async"})
        assert (answer.status_code, answer.json()["status"]) == (202, "starting")
        support.wait_until(lambda: receiver.seen, what="the webhook")
        assert json.loads(receiver.seen[0].body)["id"] == answer.json()["id"]
