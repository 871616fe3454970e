"""The GPU's own account of how busy it is, where there is one."""

import time

import torch

from bench.support.gpu_busy import KernelsBusy
from tests import support


def test_the_mean_is_of_the_time_asked_for(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    told = iter([100, 50, 0])
    monkeypatch.setattr(torch.cuda, "utilization", lambda device: next(told, 0))
    begun = time.monotonic()
    with KernelsBusy("cuda") as kernels:
        support.wait_until(lambda: len(kernels._seen) >= 3, 10, "three looks")
    second = kernels._seen[1][0]
    assert kernels.percent(begun, second) == 75
    assert kernels.percent(second, time.monotonic()) < 50
    assert kernels.percent(begun - 2, begun - 1) is None


def test_nothing_is_said_where_nothing_can_be_seen(monkeypatch, capsys):
    with KernelsBusy("cpu") as kernels:
        time.sleep(0.15)
    assert kernels.percent(0, time.monotonic()) is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)

    def refuse(device):
        raise ModuleNotFoundError("pynvml does not seem to be installed")

    monkeypatch.setattr(torch.cuda, "utilization", refuse)
    with KernelsBusy("cuda") as kernels:
        kernels._watcher.join(10)
    assert kernels.percent(0, time.monotonic()) is None
    assert "pynvml" in capsys.readouterr().out
