"""What an exception says about the device; messages as torch, CUDA and its libraries write them."""

import pytest
import torch

from models.memory.device_errors import is_out_of_memory, is_poisoned

MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.11 GiB"),
    torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("cuFFT error: CUFFT_ALLOC_FAILED"),
    RuntimeError("GET was unable to find an engine to execute this computation"),
    RuntimeError("Unable to find a valid cuDNN algorithm to run convolution"),
    RuntimeError("Invalid buffer size: 20.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory: you tried to"),
    RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB)"),
    MemoryError(),
]
POISON = [
    torch.AcceleratorError("CUDA error: device-side assert triggered\nCompile with `TORCH_USE_CUDA_DSA`"),
    torch.AcceleratorError("CUDA error: unspecified launch failure"),
    RuntimeError("CUDA error: an illegal memory access was encountered"),
    RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm( handle, opa, opb, m, n, k)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    RuntimeError("cuFFT error: CUFFT_EXEC_FAILED"),
]
NEITHER = [
    RuntimeError(
        "cuDNN error: CUDNN_STATUS_NOT_SUPPORTED. This error may appear if you passed in a non-contiguous input"
    ),
    RuntimeError("The size of tensor a (5) must match the size of tensor b (6) at non-singleton dimension 3"),
    ValueError("CUDA error is what this file is called"),
    KeyError("x"),
]


@pytest.mark.parametrize("error", [*MEMORY, *POISON, *NEITHER], ids=lambda error: str(error)[:40] or repr(error))
def test_memory_device_or_neither(error):
    assert is_out_of_memory(error) == (error in MEMORY)
    assert is_poisoned(error) == (error in POISON)


def test_a_real_allocation_that_fails_is_memory():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**52)
    assert is_out_of_memory(caught.value)
    assert not is_poisoned(caught.value)
