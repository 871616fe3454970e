"""The command line, run as a process: against a real service, in a pipe and in a terminal."""

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys

import pytest

from lama_refinery_client import Client
from tests import support
from tests.client.misbehaving import JOB_ID, answer, failure, job, problem, stream

RUN = [sys.executable, "-m", "lama_refinery_client"]
WITHOUT_RICH = [
    sys.executable,
    "-c",
    "import sys; sys.modules['rich'] = None\nfrom lama_refinery_client.cli.main import main\nsys.exit(main())",
]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "photo.png").write_bytes(support.as_file(support.pixels()))
    (tmp_path / "mask.png").write_bytes(support.as_file(support.hole()))
    return tmp_path


def run(folder, *arguments, url="http://127.0.0.1:9", text=True, **variables):
    environment = {**support.environment(url=url), **variables}
    return subprocess.run([*RUN, *arguments], cwd=folder, env=environment, capture_output=True, text=text, timeout=120)


def in_terminal(folder, url, *arguments, command=RUN):
    """What a terminal showed on standard error, and the exit code."""
    ours, theirs = pty.openpty()
    environment = {**support.environment(url=url), "TERM": "xterm", "COLUMNS": "120"}
    with subprocess.Popen(
        [*command, *arguments], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=theirs
    ) as process:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # EIO: the other side is closed
            while piece := os.read(ours, 65536):
                shown += piece
        os.close(ours)
        assert process.stdout.read() == b""
        return shown.decode(), process.wait(60)


def test_fill_in_a_pipe(refinery, folder):
    done = run(
        folder,
        "fill",
        "photo.png",
        "--masks",
        "mask.png",
        "-o",
        "out.jpg",
        "--preset",
        "single-pass",
        "--json",
        url=refinery,
    )
    assert done.returncode == 0, done.stderr
    assert (folder / "out.jpg").read_bytes()[:3] == b"\xff\xd8\xff"
    assert sorted(path.name for path in folder.iterdir()) == ["mask.png", "out.jpg", "photo.png"]
    told = json.loads(done.stdout)
    assert (told["status"], told["job"]["parameters"]["format"]) == ("succeeded", "jpeg")
    assert (told["photo"], told["mask"], told["output"]) == ("photo.png", "mask.png", "out.jpg")
    lines = done.stderr.splitlines()
    assert all(line.startswith("photo.png ") for line in lines)
    assert lines[-1].endswith("succeeded")


def test_status_result_and_cancel(refinery, folder):
    with Client(refinery) as client:
        job = client.wait(client.submit(folder / "photo.png", folder / "mask.png", preset="single-pass"))
        expected = client.result(job)
    assert run(folder, "jobs", "show", job.id, url=refinery).stdout == f"{job.id} succeeded\n"
    assert json.loads(run(folder, "jobs", "show", job.id, "--json", "--url", refinery).stdout)["id"] == job.id
    assert run(folder, "jobs", "result", job.id, "-o", "-", url=refinery, text=False).stdout == expected
    run(folder, "jobs", "result", job.id, "-o", "fetched.png", url=refinery)
    assert (folder / "fetched.png").read_bytes() == expected
    done = run(folder, "jobs", "cancel", job.id, url=refinery)
    assert (done.returncode, done.stdout) == (1, "")
    assert "[job-finished]" in done.stderr


def test_a_bar_in_a_terminal(refinery, folder):
    shown, code = in_terminal(
        folder, refinery, "fill", "photo.png", "--masks", "mask.png", "-o", "out.png", "--preset", "single-pass"
    )
    assert code == 0, shown
    assert "100%" in shown
    assert "━" in shown


def test_lines_in_a_terminal_without_rich(refinery, folder):
    arguments = ("fill", "photo.png", "--masks", "mask.png", "-o", "out.png", "--preset", "single-pass")
    shown, code = in_terminal(folder, refinery, *arguments, command=WITHOUT_RICH)
    assert code == 0, shown
    assert shown.splitlines()[-1].endswith(" succeeded")
    assert "━" not in shown


@pytest.mark.parametrize(
    "arguments",
    [
        ["fill", "photo.png"],
        ["fill", "photo.png", "-o", "out.gif"],
        ["fill", "photo.png", "-o", "out.png", "--set", "quality"],
        ["fill", "photo.png", "-o", "out.png", "--set", "quality=1", "--set", "quality=2"],
        ["fill", "photo.png", "-o", "out.png", "--set", "timeout=2"],
        ["fill", "photo.png", "-o", "out.png", "--preset", "default", "--set", "preset=default"],
        ["fill", "photo.png", "-o", "-", "--json"],
        ["jobs", "show", "no/id"],
        ["jobs", "show", "abc", "--url", "refinery"],
        ["polish"],
        [],
    ],
    ids=" ".join,
)
def test_wrong_usage(folder, arguments):
    done = run(folder, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Usage: lama-refinery" in done.stderr


def test_refusals_are_told_in_the_services_words(folder, misbehave):
    wrong = problem("invalid-parameters", 422, [{"field": "iterations", "message": "should be at most 200"}])
    server = misbehave({"POST /v1/jobs": [wrong, problem("quota", 429, Retry_After="3600")]})
    arguments = ("fill", "photo.png", "--masks", "mask.png", "-o", "out.png", "-q", "--set", "iterations=900")
    done = run(folder, *arguments, url=server.url)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "lama-refinery: It is invalid-parameters. [invalid-parameters]",
        "  iterations: should be at most 200",
    ]
    assert "asks to wait for 3600 s" in run(folder, *arguments, url=server.url).stderr
    assert not (folder / "out.png").exists()


def test_a_field_is_named_once_and_a_refused_key_says_where_it_comes_from(folder, misbehave):
    words = "should be a whole number from 1 to 200"
    wrong = {"errors": [{"field": "iterations", "message": words}], "detail": f"iterations: {words}."}
    server = misbehave({"GET /v1/jobs": [answer(422, failure("x", 422) | wrong), problem("unauthorized", 401)]})
    first, second = (run(folder, "jobs", "list", url=server.url) for _ in range(2))
    assert first.stderr == "lama-refinery: iterations: should be a whole number from 1 to 200. [x]\n"
    assert "REFINERY_API_KEY" in second.stderr


def test_a_service_that_does_not_answer_is_named_at_once(folder):
    """Nobody listens on port 9. The command is ended after its first line, which tells what a person has to know."""
    command = [*RUN, "jobs", "list"]
    environment = support.environment(url="http://127.0.0.1:9")
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        line = process.stderr.readline()
        process.terminate()
    assert line.startswith("lama-refinery: no answer from http://127.0.0.1:9 (Connection refused); trying again.")


def test_a_missing_photo(folder):
    done = run(folder, "fill", "none.png", "-o", "out.png")
    assert done.returncode == 2
    assert "none.png: there is no such file or folder" in done.stderr


def test_a_job_that_fails(folder, misbehave):
    failed = answer(200, job("failed", 3, error=failure("worker-lost", 500)))
    server = misbehave({"POST /v1/jobs": [answer(202, job())], f"GET /v1/jobs/{JOB_ID}": [failed]})
    done = run(folder, "fill", "photo.png", "-o", "out.png", "--json", url=server.url)
    assert done.returncode == 1
    assert json.loads(done.stdout)["job"]["error"]["code"] == "worker-lost"
    assert "[worker-lost]" in done.stderr
    shown = run(folder, "jobs", "show", JOB_ID, url=server.url)
    assert (shown.returncode, shown.stdout) == (0, f"{JOB_ID} failed\n  It is worker-lost. [worker-lost]\n")


@pytest.mark.parametrize("how", ["Ctrl-C", "--timeout"])
def test_who_gives_up_cancels(folder, misbehave, how):
    server = misbehave(
        {
            "POST /v1/jobs": [answer(202, job())],
            "GET /v1/jobs/{id}": [answer(200, job("running", 2))],
            "GET /v1/jobs/{id}/events": [stream(end="hang")],
            "POST /v1/jobs/{id}/cancel": [answer(200, job("canceled", 3))],
        }
    )
    arguments = ["fill", "photo.png", "-o", "out.png"]
    if how == "--timeout":
        done = run(folder, *arguments, "--timeout", "0.1", url=server.url)
        code, shown = done.returncode, done.stderr
    else:
        with subprocess.Popen(
            [*RUN, *arguments],
            cwd=folder,
            env=support.environment(url=server.url),
            stderr=subprocess.PIPE,
            text=True,
            # A test run that was started in the background may ignore Ctrl-C, and so would its children.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        ) as process:
            support.wait_until(lambda: server.of(f"GET /v1/jobs/{JOB_ID}/events"), 30, "listening")
            process.send_signal(signal.SIGINT)
            shown, code = process.stderr.read(), process.wait(30)
    assert code == (130 if how == "Ctrl-C" else 1)
    assert f"job {JOB_ID} was canceled" in shown
    assert len(server.of(f"POST /v1/jobs/{JOB_ID}/cancel")) == 1


def test_the_key_comes_from_the_environment_and_is_never_shown(folder, misbehave):
    server = misbehave({f"GET /v1/jobs/{JOB_ID}": [problem("unauthorized", 401)]})
    done = run(folder, "jobs", "show", JOB_ID, url=server.url, REFINERY_API_KEY="very-secret")
    assert server.seen[0].headers["authorization"] == "Bearer very-secret"
    assert "very-secret" not in done.stdout + done.stderr
