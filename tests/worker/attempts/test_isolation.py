"""Jobs side by side, and jobs alone."""

import threading
import time

from worker.attempts.isolation import Isolation


def test_jobs_that_took_a_worker_down_have_nobody_beside_them():
    """Many threads, in whatever order they come: nobody is ever beside one that is to be alone, and all get in."""
    isolation, lock, start = Isolation(), threading.Lock(), threading.Barrier(12)
    inside, seen = [], []

    def job(alone):
        start.wait(60)
        with isolation.joined(alone=alone):
            with lock:
                inside.append(alone)
                seen.append(list(inside))
            time.sleep(0.02)
            with lock:
                inside.remove(alone)

    threads = [threading.Thread(target=job, args=(number % 4 == 0,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(seen) == 12
    assert all(beside == [True] for beside in seen if True in beside)
    assert max(map(len, seen)) > 1, "the others were side by side"


def test_newcomers_do_not_keep_a_job_waiting_that_is_to_be_alone():
    isolation, order = Isolation(), []
    first_may_go, alone_waits = threading.Event(), threading.Event()

    def first():
        with isolation.joined(alone=False):
            alone_waits.set()
            assert first_may_go.wait(60)
            order.append("first")

    def other(name, alone):
        with isolation.joined(alone=alone):
            order.append(name)

    threads = [threading.Thread(target=first)]
    threads[0].start()
    assert alone_waits.wait(60)
    for name, alone in (("alone", True), ("newcomer", False)):
        threads.append(threading.Thread(target=other, args=(name, alone)))
        threads[-1].start()
        threads[-1].join(0.2)  # it has come to the door
        assert threads[-1].is_alive()
    first_may_go.set()
    for thread in threads:
        thread.join(60)
    assert order[:2] == ["first", "alone"]
