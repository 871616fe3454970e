"""How busy the GPU is: absent where nobody can tell."""

import logging

import pytest

from worker.gpu import GpuMeter


@pytest.mark.parametrize(("uuid", "says"), [(None, ""), ("GPU-00000000", "NVML does not tell how busy the GPU is")])
def test_without_a_gpu_it_is_not_told(caplog, uuid, says):
    with caplog.at_level(logging.INFO, "worker.gpu"):
        meter = GpuMeter(uuid)
    assert meter.busy() is None
    assert caplog.text.count("\n") == bool(says)
    assert says in caplog.text
