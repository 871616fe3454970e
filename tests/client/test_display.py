"""What a job is doing, in a few words."""

import pytest

from lama_refinery_client.display import describe
from lama_refinery_client.models import Job

BASE = {
    "id": "0" * 32,
    "created_at": "2026-01-01T00:00:00Z",
    "input": {"width": 1, "height": 1, "format": "png", "hole_fraction": 0.1, "mask_source": "mask", "bytes": 9},
    "parameters": {},
    "attempt": 1,
    "links": {},
}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"status": "queued", "queue_position": 3}, "queued, place 3"),
        ({"status": "queued"}, "queued"),
        ({"status": "running"}, "running"),
        ({"status": "succeeded", "progress": {"stage": "encode", "fraction": 1}}, "succeeded"),
        ({"status": "running", "progress": {"stage": "decode", "fraction": 0}}, "decode"),
        (
            {
                "status": "running",
                "progress": {
                    "stage": "refine",
                    "fraction": 0.5,
                    "scale": 1,
                    "scales": 3,
                    "iteration": 4,
                    "iterations": 15,
                    "window": 1,
                    "windows": 1,
                },
            },
            "scale 1/3, iteration 4/15",
        ),
        (
            {
                "status": "running",
                "progress": {
                    "stage": "refine",
                    "fraction": 0.5,
                    "scale": 2,
                    "scales": 3,
                    "iteration": 4,
                    "iterations": 15,
                    "window": 2,
                    "windows": 5,
                },
            },
            "window 2/5, scale 2/3, iteration 4/15",
        ),
        (
            {"status": "queued", "queue_position": 1, "estimate": {"low_seconds": 3.0, "high_seconds": 120.0}},
            "queued, place 1, 3 s to 2 min left",
        ),
        (
            {"status": "queued", "queue_position": 1, "estimate": {"low_seconds": 7.6, "high_seconds": 12.0}},
            "queued, place 1, 8 to 12 s left",
        ),
    ],
)
def test_words(fields, words):
    assert describe(Job.model_validate(BASE | fields)) == words
