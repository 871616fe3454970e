"""What an exception says about the device: that its memory ran out, or that it cannot be used any more."""

from __future__ import annotations

import torch

OUT_OF_MEMORY = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "ALLOC_FAILED",
    # cuDNN, when no algorithm's workspace fits any more, and MPS.
    "unable to find an engine",
    "Unable to find a valid cuDNN algorithm",
    "Invalid buffer size",
)
# What CUDA and its libraries say when a kernel failed. The context stays in error: every later call fails as well.
POISONED = (
    "CUDA error",
    "CUDA driver error",
    "device-side assert",
    "unspecified launch failure",
    "illegal memory access",
    "misaligned address",
    "cuDNN error",
    "CUDNN_STATUS_",
    "CUBLAS_STATUS_",
    "cuFFT error",
    "CUFFT_",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: the CPU's allocator has no class of its own for it, and CUDA's libraries have neither."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in OUT_OF_MEMORY)


def is_poisoned(error: BaseException) -> bool:
    """Whether the device, or this process's context on it, failed: only a new process can use it again."""
    if is_out_of_memory(error) or "STATUS_NOT_SUPPORTED" in str(error):  # which is said before anything runs
        return False
    if isinstance(error, torch.AcceleratorError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in POISONED)
