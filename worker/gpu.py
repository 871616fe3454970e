"""How busy a GPU is, as NVIDIA's library NVML reports it, if the package nvidia-ml-py is installed."""

from __future__ import annotations

import contextlib
import logging
from typing import Any

log = logging.getLogger(__name__)


class GpuMeter:
    """Reads one GPU; any number of threads may ask."""

    def __init__(self, uuid: str | None):
        """uuid: of the GPU; None without a GPU."""
        self._library: Any = None
        if uuid is None:
            return
        try:
            import pynvml

            pynvml.nvmlInit()
            self._handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
            self._library = pynvml
        except Exception as error:
            log.info("NVML does not tell how busy the GPU is (%s): pip install nvidia-ml-py", error)

    def busy(self) -> float | None:
        """Share of the last 1/6 to 1 second in which a kernel of any process ran; None if unknown."""
        if self._library is None:
            return None
        with contextlib.suppress(self._library.NVMLError):
            return float(self._library.nvmlDeviceGetUtilizationRates(self._handle).gpu) / 100
        return None
