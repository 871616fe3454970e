"""The life of a job under random use by two workers, an owner and the janitor, on a real Valkey and real blobs."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from jobs.blobs import BlobMissing
from jobs.errors import InternalError, problem_of
from jobs.job import IllegalChange, InputInfo, LeaseLost, Progress, Status, new_job
from jobs.parameters import Parameters
from jobs.store.redis_keys import (
    DEAD_LETTERS,
    DELETIONS,
    EXPIRY,
    INPUTS,
    LEASES,
    ORDER,
    QUEUED,
    STARTS,
    index_key,
    job_key,
)

INPUT = InputInfo(width=8, height=6, format="png", hole_fraction=0.25, mask_source="mask", bytes=99)
SET_OF = {Status.QUEUED: QUEUED, Status.RUNNING: LEASES, Status.EXPIRED: DELETIONS}
WORKERS = st.sampled_from(["a", "b"])


def test_whatever_happens_the_job_is_queued_leased_or_final(service):
    store, blobs, janitor, redis = service.store, service.blobs, service.janitor, service.redis

    class Life(RuleBasedStateMachine):
        """Every rule is something that can happen at any time; the model is a few lines of its own."""

        def __init__(self):
            super().__init__()
            redis.flushdb()
            asked = Parameters(start_deadline_seconds=1000, expires_in_seconds=1000, priority="low")
            job = new_job(store.now(), asked, INPUT, owner="me")
            for name in ("image", "hole"):
                blobs.put(job.id, name, b"picture")
            self.id, self.seen = job.id, store.create(job)
            self.holds = {}  # worker → attempt it believes to have
            self.outcome = None  # the first final state, for good, or until a failure is retried
            self.asked_to_cancel = False
            self.late = False  # the time to start it is over

        @rule(worker=WORKERS)
        def claim(self, worker):
            claimed = store.claim(self.id, worker)
            assert (claimed is not None) == (self.seen.status is Status.QUEUED and not self.late)
            if claimed:
                self.holds[worker] = claimed.attempt

        @rule(worker=WORKERS)
        def progress(self, worker):
            self._write(worker, lambda n: store.progress(self.id, n, Progress(stage="refine", fraction=0.5)))

        @rule(worker=WORKERS)
        def succeed(self, worker):
            attempt = self.holds.get(worker)
            if attempt:
                blobs.put(self.id, f"result-{attempt}", b"result")
            self._end(worker, lambda job, now: job.succeed(now, store.expires_at(now)))
            now = store.find(self.id)
            if attempt and (now.attempt, now.status) != (attempt, Status.SUCCEEDED):
                blobs.delete_one(self.id, f"result-{attempt}")  # as a worker does whose attempt did not succeed

        @rule(worker=WORKERS)
        def fail(self, worker):
            problem = problem_of(InternalError("x"))
            self._end(worker, lambda job, now: job.fail(now, store.expires_at(now), problem))

        @rule(worker=WORKERS)
        def hand_back(self, worker):
            self._end(worker, lambda job, now: job.hand_back(now, store.expires_at(now)))

        @rule()
        def lease_runs_out(self):
            running = self.seen.status is Status.RUNNING
            if running:
                redis.zadd(LEASES, {self.id: 0})
            try:
                store.update(
                    self.id,
                    lambda job, now: job.lose(now, store.expires_at(now), 3),
                    only_if_lease_is_dead=True,
                )
                assert running
            except IllegalChange:
                assert not running

        @rule()
        def cancel(self):
            try:
                store.update(self.id, lambda job, now: job.request_cancel(now, store.expires_at(now)))
                self.asked_to_cancel = True
            except IllegalChange:
                assert self.seen.status in (Status.SUCCEEDED, Status.FAILED, Status.EXPIRED)

        @rule()
        def expire(self):
            try:
                store.update(self.id, lambda job, now: job.expire(now))
            except IllegalChange:
                assert not self.seen.status.final

        @rule()
        def retry(self):
            try:
                store.retry(self.id)
                assert self.seen.status is Status.FAILED
                self.outcome, self.late = None, False
            except IllegalChange:
                assert self.seen.status is not Status.FAILED

        @rule()
        def the_time_to_start_is_over(self):
            if store.find(self.id).start_by is None:
                return
            job = store.update(self.id, lambda job, now: job.model_copy(update={"start_by": now}))
            self.seen, self.late = job, True

        @rule()
        def its_life_is_over(self):
            if self.seen.status.final:
                redis.zadd(EXPIRY, {self.id: 0})
                janitor.tick()
                assert store.find(self.id).status is Status.EXPIRED

        @rule()
        def housekeeping(self):
            janitor.tick()
            if self.late and self.seen.status is Status.QUEUED:
                assert store.find(self.id).error.code == "start-deadline-exceeded"
            status = store.find(self.id).status
            left = {name for name in ("image", "hole", "result") if self._has(name)}
            if status in (Status.QUEUED, Status.RUNNING, Status.FAILED):
                assert {"image", "hole"} <= left
            elif status is Status.SUCCEEDED:
                assert left == {"result"}
            else:
                assert left == set()

        def _has(self, name):
            try:
                blobs.get(self.id, f"result-{store.find(self.id).attempt}" if name == "result" else name)
            except BlobMissing:
                return False
            return True

        def _end(self, worker, change):
            self._write(worker, lambda n: store.finish(self.id, n, change))

        def _write(self, worker, write):
            """Only the worker that holds the job may write, or one that repeats its own last word."""
            attempt = self.holds.get(worker)
            if attempt is None:
                return
            before = store.find(self.id)
            try:
                write(attempt)
            except LeaseLost:
                assert store.find(self.id) == before
                assert before.status is not Status.RUNNING or before.attempt != attempt
            else:
                assert before.attempt == attempt
                assert before.status is Status.RUNNING or store.find(self.id) == before

        @invariant()
        def it_is_consistent(self):
            job = store.find(self.id)
            assert job.seq >= self.seen.seq
            assert (job.seq == self.seen.seq) == (job == self.seen)
            home = EXPIRY if job.status.final else SET_OF[job.status]
            found = {key for key in (QUEUED, LEASES, EXPIRY, DELETIONS) if redis.zscore(key, self.id)}
            assert found <= {home}  # a lease that has run out scores 0
            listed = {status for status in Status if redis.zscore(index_key("me", status), self.id) is not None}
            assert listed == {job.status} - {Status.EXPIRED}
            assert (redis.zscore(ORDER, self.id) is not None) == (job.status is Status.QUEUED)
            assert (redis.zscore(STARTS, self.id) is not None) == (job.start_by is not None)
            assert job.start_by is None or job.status is Status.QUEUED
            assert redis.zscore(INPUTS, self.id) is None or job.status in (Status.SUCCEEDED, Status.CANCELED)
            assert (redis.zscore(DEAD_LETTERS, self.id) is not None) == job.dead_letter
            assert bool(job.faults) <= (job.losses > 0)
            assert (job.expires_at is not None) == (job.status.final or job.status is Status.EXPIRED)
            assert (redis.pttl(job_key(self.id)) > 0) == (job.status is Status.EXPIRED)
            assert job.attempt >= self.seen.attempt
            assert job.losses <= 3
            if self.outcome:
                assert job.status in (self.outcome, Status.EXPIRED)
            elif job.status.final:
                self.outcome = job.status
                assert not self.asked_to_cancel or job.status is Status.CANCELED
            self.seen = job

    run_state_machine_as_test(
        Life,
        settings=settings(
            max_examples=60,
            stateful_step_count=20,
            deadline=None,
            database=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
