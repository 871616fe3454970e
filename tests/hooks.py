"""Jobs that ask for webhooks."""

from datetime import UTC, datetime

from jobs.job import InputInfo, Job, new_id
from jobs.parameters import Parameters

INPUT = InputInfo(width=8, height=6, format="png", hole_fraction=0.25, mask_source="mask", bytes=99)
EVERY = ("job.started", "job.progress", "job.succeeded", "job.failed", "job.canceled")
NOW = datetime(2026, 3, 1, 12, 30, 15, 250_000, UTC)


def make(now=NOW, *, url="https://hooks.example/x", events=EVERY, owner=None, **parameters):
    wishes = Parameters(webhook_url=url, webhook_events=events, **parameters)
    return Job(id=new_id(now), owner=owner, parameters=wishes, input=INPUT, created_at=now)
