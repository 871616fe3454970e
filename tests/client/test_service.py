"""The client against a real service, directly and through a proxy that cuts connections."""

import subprocess
import sys
from typing import get_type_hints

import httpx2
import numpy as np
import pytest

from jobs.parameters import Parameters as ServiceParameters
from lama_refinery_client import JobCanceled, Parameters, RefineryError, Retries, WaitTimeout
from tests import support
from tests.client.misbehaving import Cutter

PATIENT = Retries(attempts=8, base_seconds=0.05, cap_seconds=0.5)


def pictures(seed=0):
    """A photo that no other test sends, and its mask."""
    pixels = support.pixels()
    pixels[0, 0] = [seed // 256, seed % 256, 7]
    return support.as_file(pixels), support.as_file(support.hole())


def check(result, image):
    before, after = support.opened(image), support.opened(result)
    hole = support.hole() >= 128
    assert np.array_equal(before[~hole], after[~hole])
    assert (before[hole] != after[hole]).mean() > 0.5


def test_inpaint(connect, refinery):
    image, mask = pictures()
    told = []
    result = connect(refinery).inpaint(image, mask, preset="single-pass", on_change=told.append)
    check(result, image)
    assert told[-1].status == "succeeded"
    assert [job.seq for job in told] == sorted(job.seq for job in told)


def test_one_step_at_a_time(connect, refinery, tmp_path):
    image, mask = pictures()
    (tmp_path / "photo.png").write_bytes(image)
    client = connect(refinery)
    job = client.submit(tmp_path / "photo.png", mask, preset="single-pass", metadata={"order": "77"}, priority="high")
    assert (job.input.width, job.input.height, job.input.name) == (96, 80, "photo.png")
    done = client.wait(job, timeout=120)
    assert done.parameters["metadata"] == {"order": "77"}
    assert done.result.media_type == "image/png"
    assert len(client.result(done.id)) == done.result.bytes
    assert done.id in [found.id for found in client.list_all(status=["succeeded", "failed"])]
    with pytest.raises(RefineryError) as caught:
        client.cancel(done)
    assert (caught.value.code, caught.value.problem.job_status) == ("job-finished", "succeeded")
    client.delete(done)
    client.delete(done)
    with pytest.raises(RefineryError, match="job-expired"):
        client.result(done.id)


def test_following_and_canceling(connect, refinery):
    files = support.square_form()
    client = connect(refinery)
    job = client.submit(files["image"][1], files["mask"][1], min_side=64, largest_bridged_ratio=0, iterations=200)
    told = []
    for now in client.follow(job):
        told.append(now)
        if now.progress and now.progress.iterations and not now.cancel_requested:
            client.cancel(job)
    assert [now.seq for now in told] == sorted(now.seq for now in told)
    assert told[-1].status == "canceled"
    with pytest.raises(JobCanceled):
        client.wait(job)


def test_a_wait_that_is_too_short(connect, refinery):
    files = support.square_form()
    client = connect(refinery)
    with pytest.raises(WaitTimeout) as caught:
        client.inpaint(
            files["image"][1], files["mask"][1], min_side=64, largest_bridged_ratio=0, iterations=200, timeout=0.2
        )
    client.cancel(caught.value.job)


@pytest.mark.parametrize(
    ("fields", "code"),
    [({"preset": "best"}, "invalid-parameters"), ({"no_such_field": 1}, "invalid-parameters")],
    ids=["value", "name"],
)
def test_wrong_fields(connect, refinery, fields, code):
    with pytest.raises(RefineryError) as caught:
        connect(refinery).submit(*pictures(), **fields)
    assert (caught.value.code, caught.value.status) == (code, 422)
    assert [wrong.field for wrong in caught.value.problem.errors] == list(fields)
    assert caught.value.request_id


def test_the_fields_are_the_services():
    assert set(get_type_hints(Parameters)) == set(ServiceParameters.model_fields)


def test_a_lost_answer_makes_no_second_job(connect, refinery):
    """The service accepts each of these submissions; the client learns of it only from the last answer."""
    image, mask = pictures(1)
    before = {job.id for job in connect(refinery).list_all()}
    with Cutter(refinery, lambda request, number: (0, 30, 200, None)[min(number, 3)]) as proxy:
        client = connect(proxy.url, retries=PATIENT)
        job = client.submit(image, mask, preset="single-pass")
    assert len(proxy.seen) >= 4
    assert {found.id for found in connect(refinery).list_all()} - before == {job.id}
    connect(refinery).wait(job, timeout=120)


def test_a_key_that_was_used_for_something_else(connect, refinery):
    client = connect(refinery)
    first = client.submit(*pictures(2), idempotency_key="mine", preset="single-pass")
    assert client.submit(*pictures(2), idempotency_key="mine", preset="single-pass").id == first.id
    with pytest.raises(RefineryError) as caught:
        client.submit(*pictures(3), idempotency_key="mine", preset="single-pass")
    assert (caught.value.code, caught.value.status) == ("idempotency-key-reused", 422)
    client.delete(first)


def test_a_network_that_cuts_everything_now_and_then(connect, refinery):
    """Every third connection breaks, streams after some events: the result is whole all the same."""
    files = support.square_form()

    def plan(request, number):
        if request.path.endswith("/events"):
            return 900
        return (None, 40, None)[number % 3]

    with Cutter(refinery, plan) as proxy:
        told = []
        result = connect(proxy.url, retries=PATIENT).inpaint(
            files["image"][1],
            files["mask"][1],
            min_side=64,
            largest_bridged_ratio=0,
            iterations=8,
            on_change=told.append,
        )
    assert support.opened(result).shape == (192, 192, 3)
    assert [job.seq for job in told] == sorted(job.seq for job in told)


def test_ones_own_http_client(refinery):
    from lama_refinery_client import Client

    with httpx2.Client(headers={"X-Request-ID": "mine"}) as http:
        with Client(refinery, http_client=http) as client, pytest.raises(RefineryError) as caught:
            client.get("0" * 32)
        assert caught.value.request_id == "mine"
        assert not http.is_closed


def test_it_needs_nothing_of_the_service(tmp_path):
    code = (
        "import sys, lama_refinery_client, lama_refinery_client.cli.main; "
        "print({name.partition('.')[0] for name in sys.modules} "
        "& {'api', 'images', 'jobs', 'models', 'worker', 'numpy', 'PIL', 'torch', 'redis', 'fastapi', 'rich'})"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def new_key(name, valkey_url):
    command = [sys.executable, "-m", "api", "keys", "create", name, "--requests-per-minute", "60"]
    environment = support.environment(redis_url=valkey_url)
    done = subprocess.run(command, cwd=support.ROOT, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_api_keys(connect, valkey_url, settings, serve):
    mine, other = (new_key(name, valkey_url) for name in ("mine", "other"))
    with serve(settings) as api:
        url = str(api.base_url)
        client = connect(url, api_key=mine)
        job = client.submit(*pictures(4))
        assert [found.id for found in client.list_all()] == [job.id]
        assert list(connect(url, api_key=other).list_all()) == []
        for key, code, status in (
            (other, "unknown-job", 404),
            (None, "unauthorized", 401),
            ("wrong", "unauthorized", 401),
        ):
            with pytest.raises(RefineryError) as caught:
                connect(url, api_key=key).get(job)
            assert (caught.value.code, caught.value.status) == (code, status)
        client.delete(job)
