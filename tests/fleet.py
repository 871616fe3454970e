"""A service of real processes that can be killed one by one: a Valkey, workers, an api, and a receiver of webhooks.

What must be true of every accepted job in the end is in `ledger`; tests and bench/chaos.py hold a fleet against it.
"""

import contextlib
import dataclasses
import hashlib
import os
import re
import signal
import threading
import time

import httpx2
import obstore

from api.embedded.valkey import Valkey
from api.service import Service
from jobs.blobs import STAGING, BlobMissing
from jobs.job import Status
from jobs.settings import Settings
from jobs.store import events, heartbeat
from jobs.store.deliveries import Deliveries
from jobs.store.redis_keys import LEASES, QUEUED
from tests import support
from tests.servers.receiver import Receiver

SECRET = "whsec_" + "c2VjcmV0" * 5
SOON = {
    "lease_seconds": 1,
    "janitor_interval_seconds": 0.2,
    "requeue_grace_seconds": 1,
    "orphan_grace_seconds": 1,
    "webhook_timeout_seconds": 1,
    "webhook_retry_seconds": (0.2,) * 9,
}
FINAL = (Status.SUCCEEDED, Status.FAILED, Status.CANCELED)


class Process:
    """A started `python ...` of the service; its output is kept as lines."""

    def __init__(self, *arguments, **settings):
        self.popen = support.python(*arguments, **settings)
        self.lines, self.url, self._told = [], None, threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self):
        return self.popen.pid

    @property
    def code(self):
        """Its exit code, None while it runs."""
        return self.popen.poll()

    @property
    def output(self):
        return "".join(self.lines)

    @property
    def stopped(self):
        """Whether it has been stopped by SIGSTOP."""
        with contextlib.suppress(OSError), open(f"/proc/{self.pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] == "T"
        return False

    def wait_for_url(self):
        assert self._told.wait(60), self.output
        return self.url

    def send(self, signum):
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signum)

    def thaw(self):
        """Let a stopped process go on."""
        self.send(signal.SIGCONT)

    def kill(self):
        self.send(signal.SIGKILL)
        return self.wait()

    def terminate(self):
        self.send(signal.SIGTERM)
        return self.wait()

    def wait(self, seconds=support.PATIENCE_SECONDS):
        """Its exit code, when it has ended and all its output has been read."""
        code = self.popen.wait(seconds)
        self._reader.join()
        return code

    def _read(self):
        with self.popen.stdout as output:
            for line in output:
                self.lines.append(line)
                if match := re.search(r"api is at (http://\S+?)\.? ", line):
                    self.url = match[1]
                    self._told.set()
        self._told.set()


class Fleet:
    """Use as a context manager; `start_worker` and `start_api` make it whole."""

    def __init__(self, directory, **settings):
        self.receiver = Receiver()
        self.valkey = Valkey(directory / "valkey")
        self.valkey.start()
        self.blobs = directory / "blobs"
        chosen = {
            "redis_url": self.valkey.url,
            "blobs_url": self.blobs.as_uri(),
            "url_schemes": ("http",),
            "url_ports": (str(self.receiver.port),),
            "private_networks_allowed": ("127.0.0.0/8",),
            "webhook_secrets": (SECRET,),
            **SOON,
            **settings,
        }
        self.settings = Settings.model_validate(chosen)
        self.service = Service(self.settings)
        self.store = self.service.store
        self.workers, self.apis, self.accepted = [], [], []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in [*self.workers, *self.apis]:
            process.kill()
        self.service.close()
        self.valkey.stop()
        self.receiver.close()

    # ---- parts

    def start_worker(self, *odd, **changes):
        """A worker; `odd`: the way in which it misbehaves (tests/service/odd_worker.py)."""
        chosen = self.settings.model_copy(update=changes).model_dump()
        command = ("-m", "tests.service.odd_worker", *odd) if odd else ("-m", "worker")
        self.workers.append(Process(*command, **chosen))
        return self.workers[-1]

    def wait_for_workers(self, count):
        """Until so many workers are ready or busy."""
        ready = ("READY", "BUSY")
        support.wait_until(
            lambda: sum(p.state in ready for p in heartbeat.workers(self.service.redis)) >= count,
            what=f"{count} workers",
        )

    def start_api(self):
        """An api; its URL is `url` from now on."""
        api = Process("-m", "api", "--port", "0", **self.settings.model_dump())
        api.wait_for_url()
        self.apis.append(api)
        return api

    @property
    def url(self):
        return self.apis[-1].url

    def kill_valkey(self):
        """SIGKILL, as a crash would be: it comes back with what is in its file."""
        os.kill(self.valkey.child.pid, signal.SIGKILL)
        self.valkey.child.stop(10)

    def start_valkey(self):
        self.valkey.start()

    def wait_until_synced(self):
        """Until what Valkey has been told until now would survive even the machine's end: it syncs every second."""
        self.service.redis.waitaof(1, 0, 10_000)

    # ---- jobs

    def submit(self, files=None, **fields):
        """The id of a new job with a webhook."""
        answer = self.post(files, **fields)
        assert answer.status_code == 202, answer.text
        self.accepted.append(answer.json()["id"])
        return self.accepted[-1]

    def post(self, files=None, **fields):
        """The api's answer to a submission with a webhook."""
        fields = {"webhook_url": self.receiver.url, **{name: str(value) for name, value in fields.items()}}
        return httpx2.post(f"{self.url}/v1/jobs", files=files or support.square_form(), data=fields, timeout=60)

    def adopt_unanswered(self):
        """Jobs whose submission got no answer, because the api died, count as accepted too."""
        found = self.store.page(None, list(Status), before=None, limit=100_000)
        self.accepted += sorted({job.id for job in found} - set(self.accepted))

    def find(self, job_id):
        return self.store.find(job_id)

    def stored(self):
        """The names of the blobs by job id: for a directory, also those that were left half written."""
        found = {}
        if self.settings.blobs_url.startswith("file:"):
            for directory in self.blobs.iterdir():
                found[directory.name] = {path.name for path in directory.iterdir()}
            if not found.get(STAGING):
                found.pop(STAGING, None)
        else:
            for page in obstore.list(self.service.blobs._store):
                for item in page:
                    job_id, name = item["path"].split("/")
                    found.setdefault(job_id, set()).add(name)
        return found

    def unfinished_count(self):
        """How many jobs are queued or running."""
        return self.store.count(QUEUED) + self.store.count(LEASES)

    def keep_output(self, directory):
        """What the processes have printed, a file for each."""
        directory.mkdir(parents=True, exist_ok=True)
        for kind in ("workers", "apis"):
            for number, process in enumerate(getattr(self, kind)):
                (directory / f"{kind[:-1]}-{number}-{process.pid}.log").write_text(process.output)

    def wait_for(self, job_id, *statuses, seconds=support.PATIENCE_SECONDS):
        """The job once it has one of these statuses; default: any final one."""
        wanted = statuses or FINAL
        return support.wait_until(
            lambda: (job := self.find(job_id)) and job.status in wanted and job,
            seconds,
            f"job {job_id} being {' or '.join(wanted)}",
        )

    def ledger(self, job_ids=None, seconds=support.PATIENCE_SECONDS):
        """Wait until every accepted job is final and its webhook has arrived; what became of them all.

        With no job left unfinished and no webhook pending, blobs are swept as the janitor does it, once they are old
        enough.
        """
        job_ids = self.accepted if job_ids is None else job_ids
        self._wait_for_the_end(job_ids, seconds)
        return Ledger(self, job_ids)

    def _wait_for_the_end(self, job_ids, seconds):
        deadline, deliveries = time.monotonic() + seconds, Deliveries(self.service.redis, self.settings)

        def open_ends():
            for job_id in job_ids:
                job = self.find(job_id)
                if job is not None and not job.status.final:
                    return f"{job_id} is {job.status}"
                if any(delivery.state == "pending" for delivery in deliveries.of_job(job_id)):
                    return f"{job_id} has a webhook to send"
            return None

        while (left := open_ends()) and time.monotonic() < deadline:
            time.sleep(0.1)
        self.unfinished = left
        time.sleep(self.settings.orphan_grace_seconds + 0.1)
        self.service.janitor.tick()
        self.service.janitor.sweep_orphans()


@dataclasses.dataclass
class Entry:
    """A job in the end, and everything that is wrong with it."""

    job: object
    wrong: list


class Ledger:
    """`wrong` has what must not be, by kind: lost, doubled, webhooks, results, orphans."""

    def __init__(self, fleet, job_ids):
        self._fleet = fleet
        self.wrong = {kind: [] for kind in ("lost", "doubled", "webhooks", "results", "orphans")}
        self.jobs, self.repeated = [], 0
        told = {}
        for request in list(fleet.receiver.seen):
            event = request.event(SECRET)
            told.setdefault(event["data"]["id"], []).append((event["type"], request.headers["webhook-id"]))
        self._stored = fleet.stored()
        for job_id in job_ids:
            self._check(job_id, told.get(job_id, []))
        self.wrong["orphans"] += sorted(job_id for job_id in self._stored if not fleet.store.exists(job_id))

    def count(self, status, code=None):
        return sum(j.status is status and (code is None or j.error.code == code) for j in self.jobs)

    @property
    def failures(self):
        """How many failed, by code."""
        failed = [job.error.code for job in self.jobs if job.status is Status.FAILED]
        return {code: failed.count(code) for code in sorted(set(failed))}

    def _check(self, job_id, told):
        job = self._fleet.find(job_id)
        if job is None or not job.status.final:
            self.wrong["lost"].append(f"{job_id}: {job.status if job else 'unknown'}")
            return
        self.jobs.append(job)
        ends = [event.kind for event in events.read(self._fleet.service.redis, job_id) if event.kind in FINAL]
        if ends != [job.status]:
            self.wrong["doubled"].append(f"{job_id}: ended {len(ends)} times, {ends}")
        self._check_webhooks(job, told)
        self._check_blobs(job)

    def _check_webhooks(self, job, told):
        self.repeated += len(told) - len(set(told))
        final = {(kind, name) for kind, name in told if kind.removeprefix("job.") in FINAL}
        expected = {f"job.{job.status}"} if job.parameters.webhook_url else set()
        if {kind for kind, _ in final} != expected or len(final) != len(expected):
            self.wrong["webhooks"].append(f"{job.id} is {job.status}, told {told}")

    def _check_blobs(self, job):
        expected = {"image", "hole"} if job.status is Status.FAILED else set()
        if job.status is Status.SUCCEEDED:
            expected = {job.result_blob}
            with contextlib.suppress(BlobMissing):
                data = self._fleet.service.blobs.get(job.id, job.result_blob)
                if hashlib.sha256(data).hexdigest() != job.result.sha256:
                    self.wrong["results"].append(f"{job.id}: its result is not what was stored")
        found = self._stored.get(job.id, set())
        if found - expected:
            self.wrong["orphans"].append(f"{job.id} is {job.status} and has {sorted(found - expected)}")
        if expected - found:
            self.wrong["results"].append(f"{job.id} is {job.status} and lacks {sorted(expected - found)}")
