"""What a webhook says."""

import json
from datetime import timedelta

from jobs.errors import InternalError, problem_of
from jobs.webhooks.events import MAX_BODY_BYTES, body
from tests.hooks import NOW, make


def test_the_payload():
    job = make(metadata={"order": "ü-7"}).claim(NOW, "w").succeed(NOW, NOW + timedelta(hours=1))
    said = json.loads(body("job.succeeded", job, NOW, "https://refinery.example"))
    assert list(said) == ["type", "timestamp", "data"]
    assert (said["type"], said["timestamp"]) == ("job.succeeded", "2026-03-01T12:30:15.250000Z")
    data = said["data"]
    assert (data["id"], data["status"], data["attempts"], data["metadata"]) == (
        job.id,
        "succeeded",
        1,
        {"order": "ü-7"},
    )
    assert data["links"]["result"] == f"https://refinery.example/v1/jobs/{job.id}/result"
    assert json.loads(body("job.succeeded", job, NOW, ""))["data"]["links"]["self"] == f"/v1/jobs/{job.id}"
    assert not {"parameters", "input", "owner", "worker", "webhook_url"} & set(data)


def test_every_event_has_the_same_members():
    job = make()
    running = job.claim(NOW, "w")
    failed = running.fail(NOW, NOW, problem_of(InternalError("x")))
    members = [
        set(json.loads(body(e, j, NOW, ""))["data"]) for e, j in (("job.started", running), ("job.failed", failed))
    ]
    assert members[0] == members[1]
    assert json.loads(body("job.failed", failed, NOW, ""))["data"]["error"]["code"] == "internal-error"


def test_the_payload_stays_below_20_kb():
    job = make(metadata={f"{n:02}{'🙂' * 60}": "🙂" * 256 for n in range(16)})
    preset = {f"field{n}": "x" * 100 for n in range(200)}
    job = job.claim(NOW, "w").succeed(NOW, NOW, preset=preset)
    text = body("job.succeeded", job, NOW, "")
    assert len(text.encode()) < MAX_BODY_BYTES
    data = json.loads(text)["data"]
    assert (data["preset"], data["metadata"], data["id"]) == (None, None, job.id)
