"""From upload to result through the real thing: api, Valkey, worker, sockets. One service for all tests."""

import itertools

import numpy as np
import pytest
from PIL import Image

from tests import support


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """A service whose worker refines; ended at the end of the module."""
    from tests.conftest import EmbeddedProcess

    process = EmbeddedProcess(
        tmp_path_factory.mktemp("service"), support.Judge(), max_pixels=300_000, network_grace_seconds=1
    )
    yield process.wait_ready()
    assert process.end() == 0


def result_of(running, job_id):
    job = support.wait_for_job(running.client, job_id)
    assert job["status"] == "succeeded", job
    answer = running.client.get(job["links"]["result"])
    assert answer.status_code == 200
    return job, answer


def test_a_photo_comes_back_filled_and_otherwise_bit_identical(running):
    job_id = running.submit(min_side="64", largest_bridged_ratio="0", iterations="3")
    job, answer = result_of(running, job_id)
    before, after, hole = support.pixels(), support.opened(answer.content), support.hole() > 0
    assert after.shape == before.shape
    assert (after[~hole] == before[~hole]).all()
    assert (after[hole] != before[hole]).any()
    assert job["network"] == {"name": "migan-512-places2", "device": "cpu"}
    assert (job["preset"]["name"], job["preset"]["iterations"], job["preset"]["min_side"]) == ("default", 3, 64)
    assert {"queued", "decode", "wait", "refine", "encode", "store", "total"} == set(job["timings_seconds"])
    assert job["created_at"] <= job["started_at"] <= job["completed_at"] < job["expires_at"]
    assert (job["result"]["bytes"], job["attempts"]) == (len(answer.content), 1)
    assert answer.headers["etag"] == f'"{job["result"]["sha256"]}"'


@pytest.mark.parametrize("format", ["png", "tiff", "webp"])
def test_lossless_formats_in_and_out(running, format):
    files = support.form(support.as_file(support.pixels(), format, **({"lossless": True} if format == "webp" else {})))
    job, answer = result_of(running, running.submit(files, **support.FAST, format="same"))
    assert answer.headers["content-type"] == job["result"]["media_type"] == f"image/{format}"
    hole = support.hole() > 0
    assert (support.opened(answer.content)[~hole] == support.pixels()[~hole]).all()


def test_another_format_on_demand(running):
    _, answer = result_of(running, running.submit(format="jpeg", **support.FAST))
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["content-disposition"] == 'inline; filename="photo-refined.jpg"'


def test_an_upright_phone_photo_keeps_its_orientation(running):
    turned = Image.Exif()
    turned[0x0112] = 6
    stored = support.pixels()
    upright = np.rot90(stored, -1)
    hole = support.hole(80, 96, (20, 30, 50, 60))
    files = support.form(support.as_file(stored, exif=turned), support.as_file(hole))
    job, answer = result_of(running, running.submit(files, **support.FAST))
    after = support.opened(answer.content)
    assert (job["input"]["width"], job["input"]["height"]) == (80, 96)
    assert (after[hole == 0] == upright[hole == 0]).all()


def test_alpha_as_the_hole(running):
    rgba = support.pixels(channels=4)
    rgba[20:40, 20:60, 3] = 0
    job, answer = result_of(running, running.submit(support.form(support.as_file(rgba), mask=False), **support.FAST))
    kept = rgba[..., 3] == 255
    assert job["input"]["mask_source"] == "alpha"
    assert (support.opened(answer.content)[kept] == rgba[kept]).all()


def test_sixteen_bits_stay_sixteen(running):
    wide = support.pixels()[..., 0].astype(np.uint16) * 257 + 3
    _, answer = result_of(running, running.submit(support.form(support.as_file(wide)), **support.FAST))
    after, hole = support.opened(answer.content), support.hole() > 0
    assert after.dtype == np.uint16
    assert (after[~hole] == wide[~hole]).all()


def test_a_file_that_breaks_only_when_it_is_decoded_fails_its_job(running):
    whole = bytearray(support.as_file(support.pixels(300, 300), "tiff", compression="tiff_lzw"))
    whole[2000:9000] = bytes(7000)
    files = support.form(bytes(whole), support.as_file(support.hole(300, 300)))
    job = support.wait_for_job(running.client, running.submit(files, **support.FAST))
    assert job["status"] == "failed"
    assert (job["error"]["code"], job["error"]["status"]) == ("broken-image", 422)
    assert job["error"]["instance"] == job["links"]["self"]
    assert running.client.get(job["links"]["result"]).status_code == 409


def test_a_network_that_is_not_there_fails_the_job_only(running):
    job = support.wait_for_job(running.client, running.submit(network="big-lama"))
    assert (job["status"], job["error"]["code"]) == ("failed", "network-unavailable")
    result_of(running, running.submit(network="builtin", **support.FAST))


def test_progress_grows_and_never_goes_back(running):
    job_id = running.submit(support.square_form(), **support.SOME_STEPS)
    seen = []

    def look():
        job = running.client.get(f"/v1/jobs/{job_id}").json()
        seen.append(job)
        return job["status"] == "succeeded"

    support.wait_until(look)
    assert all(a["seq"] <= b["seq"] for a, b in itertools.pairwise(seen))
    fractions = [job["progress"]["fraction"] for job in seen if job["progress"]]
    assert fractions == sorted(fractions)
    steps = [job["progress"] for job in seen if job["progress"] and job["progress"]["iteration"]]
    assert steps
    assert all(step["scale"] <= step["scales"] and step["iteration"] <= step["iterations"] for step in steps)


def test_a_preview_comes_before_the_result_and_goes_with_the_inputs(running):
    job_id = running.submit(
        support.square_form(), preview="true", min_side="64", largest_bridged_ratio="0", iterations="40"
    )
    place, seen = f"/v1/jobs/{job_id}/preview", []

    def look():
        seen.append(running.client.get(f"/v1/jobs/{job_id}").json())
        answer = running.client.get(place)
        return answer if answer.status_code == 200 else None

    answer = support.wait_until(look)
    picture, photo = support.opened(answer.content).astype(int), support.pixels(192, 192).astype(int)
    far = support.hole(192, 192, (50, 50, 130, 120)) == 0
    assert picture.shape == photo.shape
    assert np.abs(picture - photo)[far].mean() < 8, "a JPEG of the photo"
    assert np.abs(picture - photo)[70:100, 70:110].mean() > np.abs(picture - photo)[far].mean()
    assert running.client.get(place, headers={"if-none-match": answer.headers["etag"]}).status_code == 304
    told = support.wait_until(
        lambda: (running.client.get(f"/v1/jobs/{job_id}").json()["progress"] or {}).get("preview")
    )
    assert told >= 1
    support.wait_for_job(running.client, job_id, "succeeded")
    gone = support.wait_until(lambda: (a := running.client.get(place)).status_code == 404 and a)
    assert gone.json()["code"] == "no-preview"


def test_no_preview_without_asking_for_one(running):
    job, _ = result_of(running, running.submit(**support.FAST))
    answer = running.client.get(f"/v1/jobs/{job['id']}/preview")
    assert (answer.status_code, answer.json()["code"]) == (404, "no-preview")


def test_a_running_job_stops_soon_after_a_cancel(running):
    job_id = running.submit(support.square_form(), **support.MANY_STEPS)
    support.wait_for_job(running.client, job_id, "running")
    assert running.client.post(f"/v1/jobs/{job_id}/cancel").status_code in (200, 202)
    job = support.wait_for_job(running.client, job_id, seconds=20)
    assert (job["status"], job["result"], job["error"]) == ("canceled", None, None)


def test_a_deleted_running_job_frees_its_worker_and_leaves_nothing(running):
    job_id = running.submit(support.square_form(), **support.MANY_STEPS)
    support.wait_for_job(running.client, job_id, "running")
    assert running.client.delete(f"/v1/jobs/{job_id}").status_code == 204
    result_of(running, running.submit(**support.FAST))
    support.wait_until(lambda: running.client.get("/readyz").json()["state"] == "READY")
    assert not (running.data / "blobs" / job_id).exists()


def test_many_at_once_all_succeed(running):
    ids = [running.submit(**support.FAST) for _ in range(12)]
    assert {result_of(running, job_id)[0]["attempts"] for job_id in ids} == {1}


def test_readiness_names_the_network(running):
    ready = running.client.get("/readyz").json()
    assert ready["state"] in ("READY", "BUSY")
    assert [worker["network"] for worker in ready["workers"]] == ["migan-512-places2"]


def test_one_call_from_photo_to_result(running):
    headers = {"prefer": "wait=60", "accept": "image/*"}
    answer = running.client.post("/v1/jobs", files=support.form(), data=support.FAST, headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    assert support.opened(answer.content).shape == support.pixels().shape
    support.wait_until(
        lambda: (
            [p.name for p in (running.data / "blobs" / answer.headers["location"].split("/")[-1]).iterdir()]
            == ["result-1"]
        ),
        what="the end of its inputs",
    )


def test_the_worker_works_on_the_mask_that_was_asked_for(running):
    soft = support.hole()
    soft[:8, :8] = 60
    job_id = running.submit(support.form(mask=support.as_file(soft)), mask_threshold="50", **support.FAST)
    before, after = support.pixels(), support.opened(result_of(running, job_id)[1].content)
    assert (after[:8, :8] != before[:8, :8]).any()
    job_id = running.submit(mask_dilate_pixels="10", mask_invert="false", **support.FAST)
    after = support.opened(result_of(running, job_id)[1].content)
    assert (after[22:28, 30:60] != before[22:28, 30:60]).any()
    assert (after[:20] == before[:20]).all()


def test_the_quality_of_a_jpeg(running):
    sizes = []
    for quality in ("30", "95"):
        job_id = running.submit(format="jpeg", quality=quality, **support.FAST)
        sizes.append(len(result_of(running, job_id)[1].content))
    assert sizes[0] < sizes[1] / 2


def test_a_job_that_works_too_long_fails_and_can_be_tried_again(running):
    job_id = running.submit(support.square_form(), run_deadline_seconds="0.5", **support.MANY_STEPS)
    job = support.wait_for_job(running.client, job_id, seconds=30)
    assert (job["status"], job["error"]["code"]) == ("failed", "run-deadline-exceeded")
    assert running.client.post(f"/v1/jobs/{job_id}/retry").status_code == 202
    job = support.wait_for_job(running.client, job_id, seconds=30)
    assert (job["status"], job["attempts"]) == ("failed", 2)


def test_a_job_that_does_not_start_in_time_fails(running):
    first = running.submit(support.square_form(), **support.MANY_STEPS)
    second = running.submit(support.square_form(), **support.MANY_STEPS)  # a worker has two jobs at a time
    for job_id in (first, second):
        support.wait_for_job(running.client, job_id, "running")
    late = running.submit(start_deadline_seconds="0.2")
    job = support.wait_for_job(running.client, late, seconds=30)
    assert (job["status"], job["error"]["code"], job["attempts"]) == ("failed", "start-deadline-exceeded", 0)
    for job_id in (first, second):
        running.client.delete(f"/v1/jobs/{job_id}")


def test_high_priority_comes_first(running):
    busy = [running.submit(support.square_form(), **support.MANY_STEPS) for _ in range(2)]
    for job_id in busy:
        support.wait_for_job(running.client, job_id, "running")
    low, high = running.submit(priority="low", **support.FAST), running.submit(priority="high", **support.FAST)
    places = [running.client.get(f"/v1/jobs/{job_id}").json()["queue_position"] for job_id in (low, high)]
    assert places == [2, 1]
    running.client.delete(f"/v1/jobs/{busy[0]}")  # one place for two
    support.wait_for_job(running.client, high, "running")
    assert running.client.get(f"/v1/jobs/{low}").json()["status"] == "queued"
    running.client.delete(f"/v1/jobs/{busy[1]}")
    for job_id in (low, high):
        result_of(running, job_id)


def test_events_from_the_beginning_to_the_end(running):
    job_id = running.submit(support.square_form(), **support.SOME_STEPS)
    text = running.client.get(f"/v1/jobs/{job_id}/events").text
    assert [line for line in text.split("\n") if line.startswith("event: ")][:2] == ["event: status"] * 2
    assert "event: progress" in text
    assert '"succeeded"' in text.strip().split("\n\n")[-1]


def test_networks_and_plans_know_the_worker(running):
    result_of(running, running.submit(support.square_form(), **support.SOME_STEPS))
    found = support.wait_until(lambda: running.client.get("/v1/networks").json()["networks"])
    assert found[0]["name"] == "migan-512-places2"
    assert {"auto", "builtin"} <= set(found[0]["parameter"])

    def measured():
        plan = running.client.post("/v1/plans", files=support.square_form(), data=support.SOME_STEPS).json()
        return plan if plan["estimated_seconds"] is not None else None

    plan = support.wait_until(measured, what="a measured network")
    assert 0 < plan["estimated_seconds"] < 60
    assert len(plan["windows"][0]["scales"]) == 2
