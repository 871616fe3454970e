"""The life of a job under random use by two workers, an owner and the janitor, on a real Valkey."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from jobs.errors import InternalError, problem_of
from jobs.job import IllegalChange, InputInfo, Job, LeaseLost, Progress, Status, new_id
from jobs.parameters import Parameters
from jobs.store import DELETIONS, EXPIRY, LEASES, QUEUED

INPUT = InputInfo(width=8, height=6, format="png", hole_fraction=0.25, mask_source="mask", bytes=99)
SET_OF = {Status.QUEUED: QUEUED, Status.RUNNING: LEASES, Status.EXPIRED: DELETIONS}
WORKERS = st.sampled_from(["a", "b"])


def test_whatever_happens_the_job_is_queued_leased_or_final(store):
    class Life(RuleBasedStateMachine):
        """Every rule is something that can happen at any time; the model is a few lines of its own."""

        def __init__(self):
            super().__init__()
            now = store.now()
            job = Job(id=new_id(now), parameters=Parameters(), input=INPUT, created_at=now)
            self.id, self.seen = job.id, store.create(job)
            self.holds = {}  # worker → attempt it believes to have
            self.owner = None
            self.outcome = None  # the first final state, for good
            self.asked_to_cancel = False

        @rule(worker=WORKERS)
        def claim(self, worker):
            claimed = store.claim(self.id, worker)
            assert (claimed is not None) == (self.seen.status is Status.QUEUED)
            if claimed:
                self.holds[worker] = claimed.attempt
                self.owner = worker

        @rule(worker=WORKERS)
        def progress(self, worker):
            self._write(worker, lambda n: store.progress(self.id, n, Progress(stage="refine", fraction=0.5)))

        @rule(worker=WORKERS)
        def succeed(self, worker):
            self._end(worker, lambda job, now: job.succeed(now, store.expires_at(now)))

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
                store._redis.zadd(LEASES, {self.id: 0})
            try:
                store.update(
                    self.id,
                    lambda job, now: job.lose(now, store.expires_at(now), 3),
                    only_if_lease_is_dead=True,
                )
                assert running
                self.owner = None
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
            found = {key for key in (QUEUED, LEASES, EXPIRY, DELETIONS) if store._redis.zscore(key, self.id)}
            assert found <= {home}  # a lease that has run out scores 0
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
