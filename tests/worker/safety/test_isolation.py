"""Jobs side by side, and jobs alone."""

import threading

from tests import support
from worker.safety.isolation import Company


class Guest:
    """Joins in a thread of its own, and stays until it is told to leave."""

    def __init__(self, company, alone):
        self.inside, self._leave = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, args=(company, alone))
        self._thread.start()

    def _run(self, company, alone):
        with company.joined(alone=alone):
            self.inside.set()
            assert self._leave.wait(60)
        self.inside.clear()

    def leave(self):
        self._leave.set()
        self._thread.join()


def test_who_wants_to_be_alone_waits_for_the_others_and_keeps_them_out():
    company = Company()
    first, second = Guest(company, False), Guest(company, False)
    assert first.inside.wait(60)
    assert second.inside.wait(60)
    loner = Guest(company, True)
    support.wait_until(lambda: company._loners_waiting == 1)
    newcomer, other_loner = Guest(company, False), Guest(company, True)
    support.wait_until(lambda: company._loners_waiting == 2)
    first.leave()
    assert not loner.inside.wait(0.1)
    second.leave()
    support.wait_until(lambda: loner.inside.is_set() or other_loner.inside.is_set())
    assert loner.inside.is_set() != other_loner.inside.is_set()
    assert not newcomer.inside.wait(0.1)
    inside, waiting = (loner, other_loner) if loner.inside.is_set() else (other_loner, loner)
    inside.leave()
    assert waiting.inside.wait(60)
    assert not newcomer.inside.is_set()
    waiting.leave()
    assert newcomer.inside.wait(60)
    newcomer.leave()
