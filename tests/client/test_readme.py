"""The snippets of client/README.md, run as they stand there."""

import json
import re
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import pytest
from standardwebhooks import Webhook

import lama_refinery_client
from tests import support

README = (support.ROOT / "client" / "README.md").read_text()
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def snippet(words):
    """The one Python block in which these words are."""
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    (found,) = [block for block in blocks if words in block]
    return found


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(support.as_file(support.pixels(), "jpeg"))
    (tmp_path / "mask.png").write_bytes(support.as_file(support.hole()))
    return tmp_path


def python(folder, code, url):
    (folder / "snippet.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "snippet.py"],
        cwd=folder,
        env=support.environment(url=url),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def is_result(path):
    return support.opened(path.read_bytes()).shape == (80, 96, 3)


def test_every_link_leads_somewhere():
    for target in re.findall(r"\]\((?!http)([^)#]+)", README):
        assert (support.ROOT / "client" / target).exists(), target


def test_the_shell_lines(refinery, folder):
    lines = [line.partition("  #")[0] for line in README.splitlines() if line.startswith("lama-refinery fill")]
    assert len(lines) == 4
    (folder / "photos").mkdir()
    for number in range(2):
        (folder / f"photos/{number}.png").write_bytes((folder / "photo.jpg").read_bytes())
        (folder / f"photos/{number}_mask.png").write_bytes((folder / "mask.png").read_bytes())
    program = Path(sys.executable).with_name("lama-refinery")
    assert program.exists()
    for line in lines:
        command = line.replace("lama-refinery", f"'{program}'", 1).replace("http://127.0.0.1:8000", refinery)
        subprocess.run(
            ["sh", "-c", command], cwd=folder, env=support.environment(url=refinery), check=True, timeout=120
        )
    assert is_result(folder / "out.png")
    assert is_result(folder / "out.jpg")
    assert is_result(folder / "filled/1.png")
    assert json.loads((folder / "job.json").read_text())["job"]["parameters"]["quality"] == 90


def test_three_lines(refinery, folder):
    python(folder, snippet('client.inpaint("photo.jpg", "mask.png"))\n'), refinery)
    assert is_result(folder / "out.jpg")


def test_step_by_step(refinery, folder):
    printed = python(folder, snippet("client.follow(job)"), refinery)
    assert printed.splitlines()[-1].strip() == "succeeded"
    assert is_result(folder / "out.jpg")


def test_many_at_once(refinery, folder):
    python(folder, snippet("asyncio.gather"), refinery)
    assert is_result(folder / "out-0.jpg")
    assert is_result(folder / "out-1.jpg")


def test_the_methods_are_all_there():
    named = {
        name for cell in re.findall(r"^\| (`.*?) \|", README, flags=re.M) for name in re.findall(r"`(\w+)\(", cell)
    }
    for kind in (lama_refinery_client.Client, lama_refinery_client.AsyncClient):
        public = {name for name in vars(kind) if not name.startswith("_")} - {"url", "close", "aclose"}
        assert named == public


@pytest.fixture
def receiver(folder):
    """The snippet, running: its port and its process."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (folder / "receiver.py").write_text(snippet("verify_webhook(dict"))
    process = subprocess.Popen(
        [sys.executable, "receiver.py"],
        cwd=folder,
        env={**support.environment(), "WEBHOOK_SECRET": SECRET, "PORT": str(port)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )

    def is_up():
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        support.wait_until(is_up, 30, "the receiver")
        yield port, process
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


def test_the_webhook_receiver_turns_away_what_was_changed(receiver):
    port, process = receiver
    now = int(time.time())
    body = json.dumps({"type": "job.succeeded", "timestamp": "2027-01-15T08:00:00Z", "data": {"id": "abc"}})
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(now),
        "webhook-signature": Webhook(SECRET).sign("msg_1", datetime.fromtimestamp(now, UTC), body),
    }
    assert httpx2.post(f"http://127.0.0.1:{port}/", content=body + " ", headers=headers).status_code == 400
    assert httpx2.post(f"http://127.0.0.1:{port}/", content=body, headers=headers).status_code == 204
    assert process.stdout.readline() == "msg_1 job.succeeded abc\n"


def test_the_webhook_receiver_is_told_by_a_real_service(receiver, embedded, folder):
    port, process = receiver
    allowed = {"url_schemes": "http", "url_ports": port, "private_networks_allowed": "127.0.0.0/8"}
    service = embedded(webhook_secrets=SECRET, **allowed).wait_ready()
    with lama_refinery_client.Client(service.url) as client:
        job = client.submit(
            folder / "photo.jpg", folder / "mask.png", preset="single-pass", webhook_url=f"http://127.0.0.1:{port}/"
        )
    message, kind, job_id = process.stdout.readline().split()
    assert message.startswith("msg_")
    assert (kind, job_id) == ("job.succeeded", job.id)
