"""`lama-refinery fill` on folders through a real service: failures, resuming, a bounded number in flight."""

import json
import os
import signal
import subprocess
import sys

import pytest

from lama_refinery_client import Client
from tests import support

RUN = [sys.executable, "-m", "lama_refinery_client", "fill"]


@pytest.fixture
def folder(tmp_path):
    for number in range(4):
        photo = support.pixels(96 + 8 * number, 80)
        (tmp_path / "in" / "sub").mkdir(parents=True, exist_ok=True)
        place = tmp_path / "in" / ("sub" if number == 3 else "")
        (place / f"p{number}.png").write_bytes(support.as_file(photo))
        (place / f"p{number}_mask.png").write_bytes(support.as_file(support.hole(96 + 8 * number, 80)))
    (tmp_path / "in" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n no picture")
    return tmp_path


def run(folder, url, *arguments):
    command = [*RUN, "in", "-o", "out", "--preset", "single-pass", *arguments]
    environment = support.environment(url=url)
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def test_a_folder_with_a_broken_file(refinery, folder):
    done = run(folder, refinery, "--json", "--in-flight", "2")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1
    assert {line["photo"]: line["status"] for line in lines} == {
        "in/broken.png": "failed",
        "in/p0.png": "succeeded",
        "in/p1.png": "succeeded",
        "in/p2.png": "succeeded",
        "in/sub/p3.png": "succeeded",
    }
    assert "4 of 5 pictures done" in done.stderr
    assert "  broken.png: " in done.stderr
    assert support.opened((folder / "out/sub/p3.png").read_bytes()).shape == (80, 120, 3)
    again = run(folder, refinery, "--json", "--skip-existing")
    statuses = [json.loads(line)["status"] for line in again.stdout.splitlines()]
    assert sorted(statuses) == ["failed", "skipped", "skipped", "skipped", "skipped"]


def test_the_same_command_takes_up_its_jobs(refinery, folder):
    (folder / "in/broken.png").unlink()
    with Client(refinery) as client:
        first = run(folder, refinery, "--json")
        jobs = {json.loads(line)["job"]["id"] for line in first.stdout.splitlines()}
        before = {job.id for job in client.list_all()}
        second = run(folder, refinery, "--json")
        assert {json.loads(line)["job"]["id"] for line in second.stdout.splitlines()} == jobs
        assert {job.id for job in client.list_all()} == before
        (batch,) = {client.get(job).parameters["batch"] for job in jobs}
        assert {job.id for job in client.list_all(batch=batch)} == jobs
    shown = subprocess.run(
        [*RUN[:-1], "batches", "show", batch, "--url", refinery], capture_output=True, text=True, timeout=60
    )
    assert shown.stdout == f"{batch} 100% of 4 jobs: 4 succeeded\n"


def test_an_interrupted_folder_says_how_to_go_on(refinery, folder):
    (folder / "in/broken.png").unlink()
    command = [*RUN, "in", "-o", "out", "--in-flight", "1", "--set", "min_side=64", "--set", "iterations=200"]
    with subprocess.Popen(
        command,
        cwd=folder,
        env=support.environment(url=refinery),
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        support.wait_until(lambda: os.listdir(folder / "in"), 5)
        with Client(refinery) as client:
            support.wait_until(lambda: any(job.status == "running" for job in client.list_all()), 60, "a running job")
            process.send_signal(signal.SIGINT)
            _, shown = process.communicate(timeout=60)
            for job in client.list_all(status=["queued", "running"]):
                client.cancel(job)
    assert process.returncode == 130
    assert "add --skip-existing to go on" in shown
