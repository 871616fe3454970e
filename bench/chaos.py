"""`python -m bench.chaos --minutes N`: kills parts of a real service at random and prints the ledger of its jobs.

Workers are killed, frozen past their leases and thawed, and asked to stop; Valkey is killed and comes back with its
file, or is frozen; the api is killed in the middle of uploads, or frozen; jobs are canceled; one webhook in ten is
answered with an error. Workers that ended by themselves are replaced, as a supervisor would. Then everything is left
alone until all jobs have ended. Exits with 1 when anything is wrong in the end.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx2
import redis

from bench.support import scenes
from jobs.job import Status
from tests import support
from tests.fleet import Fleet, Process
from tests.servers.receiver import Reply
from tests.servers.s3 import Server

MOST_UNFINISHED = 12
DRAIN_SECONDS = 180
PAUSE_SECONDS = (0.5, 4.0)  # between two disturbances
WEIGHTS = {
    "kill a worker": 5,
    "freeze a worker": 3,
    "stop a worker": 3,
    "kill valkey": 2,
    "freeze valkey": 2,
    "kill the api": 3,
    "freeze the api": 2,
    "cancel a job": 4,
}


class Chaos:
    """Submits jobs from one thread and disturbs the service from another; the seed decides what is done at random."""

    def __init__(self, fleet: Fleet, workers: int, seed: int, bucket: Server | None):
        self._fleet, self._random, self._bucket = fleet, random.Random(seed), bucket
        self._weights = {**WEIGHTS, **({"fail the bucket": 3} if bucket else {})}
        self._fleet.receiver.reply = self._reply
        self._workers = workers
        self._top_up()
        fleet.start_api()
        self.done: Counter[str] = Counter()
        self.refused = 0
        self._stop = threading.Event()
        self._submitter = threading.Thread(target=self._submit_all, args=(random.Random(seed + 1),))
        photo, mask = support.pixels(1600, 1200), support.hole(1600, 1200, (600, 500, 700, 580))
        self._large = support.form(support.as_file(photo, compress_level=1), support.as_file(mask))

    def run(self, seconds: float) -> None:
        """Disturb for this many seconds, then start everything that is down."""
        self._submitter.start()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            time.sleep(self._random.uniform(*PAUSE_SECONDS))
            what = self._random.choices(list(self._weights), list(self._weights.values()))[0]
            self._top_up()
            self.done[what] += 1
            print(f"{seconds - (deadline - time.monotonic()):6.1f} s  {what}", flush=True)
            {
                "kill a worker": self._kill_worker,
                "freeze a worker": self._freeze_worker,
                "stop a worker": self._stop_worker,
                "kill valkey": self._kill_valkey,
                "freeze valkey": self._freeze_valkey,
                "kill the api": self._kill_api,
                "freeze the api": self._freeze_api,
                "cancel a job": self._cancel,
                "fail the bucket": self._fail_bucket,
            }[what]()
        self._stop.set()
        self._submitter.join()
        self._top_up()
        self._fleet.adopt_unanswered()

    def _alive(self) -> list[Process]:
        return [worker for worker in self._fleet.workers if worker.code is None]

    def _top_up(self) -> None:
        """Start workers until there are enough; one that starts while Valkey is down ends at once."""
        for _ in range(self._workers - len(self._alive())):
            self._fleet.start_worker()

    def _some_worker(self) -> Process:
        return self._random.choice(self._alive())

    def _kill_worker(self) -> None:
        self._some_worker().kill()
        time.sleep(self._random.uniform(0, 1))
        self._fleet.start_worker()

    def _freeze_worker(self) -> None:
        self._freeze(self._some_worker().pid)

    def _freeze_valkey(self) -> None:
        if pid := self._fleet.valkey.child.pid:
            self._freeze(pid)

    def _freeze_api(self) -> None:
        self._freeze(self._fleet.apis[-1].pid)

    def _freeze(self, pid: int) -> None:
        """Freeze a process for less than a lease, or for longer."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            time.sleep(self._random.uniform(0.2, 3.0))
            os.kill(pid, signal.SIGCONT)

    def _stop_worker(self) -> None:
        worker = self._some_worker()
        self._fleet.start_worker()
        worker.send(signal.SIGTERM)

    def _kill_valkey(self) -> None:
        self._fleet.kill_valkey()
        time.sleep(self._random.uniform(0, 2))
        self._fleet.start_valkey()

    def _kill_api(self) -> None:
        uploads = [threading.Thread(target=self._upload, args=(self._large,)) for _ in range(3)]
        for upload in uploads:
            upload.start()
        time.sleep(self._random.uniform(0, 0.4))
        self._fleet.apis[-1].kill()
        for upload in uploads:
            upload.join()
        self._fleet.start_api()

    def _cancel(self) -> None:
        if self._fleet.accepted:
            with contextlib.suppress(httpx2.HTTPError):
                httpx2.post(f"{self._fleet.url}/v1/jobs/{self._random.choice(self._fleet.accepted[-10:])}/cancel")

    def _fail_bucket(self) -> None:
        if self._bucket is not None:
            self._bucket.mode(self._random.choice(["503", "drop", "hang"]))
            time.sleep(self._random.uniform(0.2, 4.0))
            self._bucket.mode("ok")

    def _upload(self, files: Any, **fields: str) -> None:
        try:
            answer = self._fleet.post(files, **{**support.FAST, **fields})
        except httpx2.HTTPError:
            return  # the ledger shows at the end whether there is a job now
        if answer.status_code == 202:
            self._fleet.accepted.append(answer.json()["id"])
        else:
            self.refused += 1

    def _submit_all(self, chance: random.Random) -> None:
        """Keep some jobs unfinished: small and large ones, some of them refined."""
        while not self._stop.wait(chance.uniform(0.05, 0.6)):
            try:
                if self._fleet.unfinished_count() >= MOST_UNFINISHED:
                    continue
            except redis.RedisError:
                continue
            kind = chance.choice(["fast", "refined", "refined", "large"])
            priority = chance.choice(["high", "normal", "low"])
            steps = support.SOME_STEPS if kind == "refined" else {}
            files = self._large if kind == "large" else support.square_form()
            preset = "default" if kind == "refined" else "single-pass"
            self._upload(files, preset=preset, priority=priority, **steps)

    def _reply(self, number: int, _: Any) -> Reply:
        return Reply(503) if number % 10 == 7 else Reply()


def main() -> int:
    """Run, print the ledger, and return whether it is in order."""
    parser = argparse.ArgumentParser(prog="python -m bench.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, help="how long to disturb: %(default)s")
    parser.add_argument("--workers", type=int, default=3, help="worker processes: %(default)s")
    parser.add_argument("--seed", type=int, help="of everything that is done at random (default: a new one)")
    parser.add_argument("--s3", action="store_true", help="keep images in a bucket (moto's server), which fails too")
    parser.add_argument("--keep", type=Path, help="write the processes' output into this directory")
    parser.add_argument("--out", type=Path, help="write JSON here")
    options = parser.parse_args()
    seed = random.randrange(10**6) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    with contextlib.ExitStack() as end:
        directory = end.enter_context(tempfile.TemporaryDirectory())
        settings: dict[str, Any] = {"lease_seconds": 2}
        bucket = Server() if options.s3 else None
        if bucket is not None:
            end.callback(bucket.stop)
            os.environ.update(bucket.environment)
            settings |= {"blobs_url": bucket.make_bucket("chaos"), "blobs_http_allowed": True}
            settings |= {"blobs_retry_seconds": 1, "blobs_stall_seconds": 2}
        fleet = end.enter_context(Fleet(Path(directory), **settings))
        try:
            chaos = Chaos(fleet, options.workers, seed, bucket)
            chaos.run(options.minutes * 60)
            ledger = fleet.ledger(seconds=DRAIN_SECONDS)
        finally:
            if options.keep:
                fleet.keep_output(options.keep)
    wrong = {kind: len(found) for kind, found in ledger.wrong.items()}
    row = {
        "accepted": len(fleet.accepted),
        "succeeded": ledger.count(Status.SUCCEEDED),
        "failed": sum(ledger.failures.values()),
        "canceled": ledger.count(Status.CANCELED),
        "refused": chaos.refused,
        "lost": wrong["lost"],
        "doubled": wrong["doubled"],
        "results not whole": wrong["results"],
        "webhooks missing or doubled": wrong["webhooks"],
        "webhooks sent again": ledger.repeated,
        "orphaned blobs": wrong["orphans"],
    }
    rows = [{"what": what, "count": count} for what, count in row.items()]
    rows += [{"what": f"failed: {code}", "count": count} for code, count in ledger.failures.items()]
    rows += [{"what": f"done: {what}", "count": count} for what, count in sorted(chaos.done.items())]
    scenes.show(f"Ledger of {options.minutes:g} minutes of chaos, seed {seed}", rows, options.out)
    for kind, found in ledger.wrong.items():
        for item in found:
            print(f"{kind}: {item}", file=sys.stderr)
    return int(any(wrong.values()))


if __name__ == "__main__":
    sys.exit(main())
