"""Reading tensors from PyTorch's pickle-based files: a zip since PyTorch 1.6, one stream before.

The pickle in them describes the tensors (models/weights/unpickler.py); their values lie next to it, raw. They are read
when asked for, so that the optimizer states of a training checkpoint cost nothing.
"""

from __future__ import annotations

import io
import math
import os
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.errors import CheckpointError
from models.weights.unpickler import MAX_PICKLE_BYTES, Bounded, LazyTensor, Storage, unpickle, walk

LEGACY_MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # the first object in a file from before 1.6


class PickledFile:
    """An open file that `torch.save` or TorchScript wrote.

    `root` is what was pickled, with `Inert` and `LazyTensor` in it; `read` gives a tensor's values.
    Use as a context manager. Raises CheckpointError when the file is truncated, corrupt or of another kind,
    OSError when it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.root: Any = None
        self.torchscript = False
        self._cache: dict[str, bytearray] = {}
        self._stream: dict[str, int] = {}  # files before 1.6: where each storage starts
        self._zip: zipfile.ZipFile | None = None
        self._file: io.BufferedReader = open(path, "rb")  # noqa: SIM115, closed by __exit__
        try:
            if self._file.read(len(LEGACY_MAGIC)) == LEGACY_MAGIC:
                self._open_stream()
            else:
                self._open_zip()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> PickledFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._cache.clear()
        self._file.close()

    def tensors(self, root: object) -> Iterator[tuple[str, LazyTensor]]:
        """Every tensor below `root` (a part of `self.root`) with its dotted name, in the file's order."""
        try:
            yield from walk(root)
        except ValueError as error:
            raise self._corrupt(str(error)) from error

    def read(self, lazy: LazyTensor) -> Tensor:
        """Load the tensor's values, on the CPU; tensors that share memory in the file share it here."""
        storage, dtype, offset, shape, strides = lazy
        if dtype is None or storage.dtype is None:
            raise CheckpointError(f"{self.path} holds quantised tensors; give the float32 or float16 checkpoint")
        if len(shape) != len(strides) or min((*shape, *strides, offset)) < 0:
            raise self._corrupt("a tensor has an impossible shape")
        if storage.key not in self._cache:
            self._cache[storage.key] = self._storage_bytes(storage)
        data = self._cache[storage.key]
        available, size = len(data) // dtype.itemsize, math.prod(shape)
        if size == 0:
            return torch.empty(shape, dtype=dtype)
        last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
        # The second test refuses repeated elements (stride 0): a few bytes could claim to be terabytes.
        if last >= available or size > available:
            raise self._corrupt("a tensor reaches past the end of its data")
        try:
            return torch.frombuffer(data, dtype=dtype, count=available).as_strided(shape, strides, offset)
        except (RuntimeError, OverflowError, TypeError) as error:
            raise self._corrupt("a tensor has impossible strides") from error

    def _open_zip(self) -> None:
        try:
            self._zip = zipfile.ZipFile(self._file)
        except OSError:
            raise
        except Exception as error:  # zipfile fails in many ways on damaged archives
            raise CheckpointError(
                f"{self.path} is truncated or damaged: the directory at its end is missing. Fetch it again."
            ) from error
        names = self._zip.namelist()
        heads = [name for name in names if name == "data.pkl" or name.endswith("/data.pkl")]
        if len(heads) != 1:
            inner = [n for n in names if n.lower().endswith((".ckpt", ".pt", ".pth", ".safetensors"))]
            advice = f" Unpack it and give {inner[0]}." if inner else ""
            raise CheckpointError(
                f"{self.path} is a zip archive, but not a checkpoint: it has no data.pkl, which PyTorch "
                f"writes into every one.{advice}"
            )
        self._prefix = prefix = heads[0].removesuffix("data.pkl")
        self.torchscript = any(n == prefix + "constants.pkl" or n.startswith(prefix + "code/") for n in names)
        order = prefix + "byteorder"
        if order in names and self._member(order, 16).decode("ascii", "replace") != sys.byteorder:
            raise CheckpointError(
                f"{self.path} has the other byte order than this machine: convert it to safetensors there"
            )
        self.root = self._unpickle(io.BytesIO(self._member(heads[0], MAX_PICKLE_BYTES)))[0]

    def _open_stream(self) -> None:
        file = Bounded(self._file)
        for _ in range(2):  # the protocol's version; the writer's byte order and integer sizes
            self._unpickle(file)
        self.root, storages = self._unpickle(file)
        keys = self._unpickle(file)[0]
        end = os.fstat(self._file.fileno()).st_size
        for key in keys if isinstance(keys, list) else []:
            storage = storages.get(str(key))
            count = int.from_bytes(self._file.read(8), sys.byteorder)
            if storage is None or storage.dtype is None or storage.numel != count:
                raise self._corrupt(f"storage {key} is not what its tensors say")
            self._stream[storage.key] = self._file.tell()
            if self._file.seek(storage.nbytes, os.SEEK_CUR) > end:
                raise self._corrupt("it ends in the middle of its tensors")

    def _unpickle(self, file: Any) -> tuple[Any, dict[str, Storage]]:
        try:
            return unpickle(file)
        except Exception as error:  # a damaged pickle can fail in any way its opcodes can
            raise self._corrupt(f"its description of the tensors cannot be read ({error})") from error

    def _storage_bytes(self, storage: Storage) -> bytearray:
        if self._zip is not None:
            return self._member(f"{self._prefix}data/{storage.key}", storage.nbytes, exact=True)
        if storage.key not in self._stream:
            raise self._corrupt(f"it has no data for storage {storage.key}")
        self._file.seek(self._stream[storage.key])
        data = bytearray(storage.nbytes)
        if self._file.readinto(data) != len(data):
            raise self._corrupt("it ends in the middle of its tensors")
        return data

    def _member(self, name: str, limit: int, *, exact: bool = False) -> bytearray:
        """The bytes of a file in the archive, which must be at most (or exactly) `limit` long."""
        assert self._zip is not None
        try:
            info = self._zip.getinfo(name)
            # PyTorch stores numbers uncompressed. What claims to be larger than its archive is a bomb.
            size = min(limit, os.fstat(self._file.fileno()).st_size)
            if info.file_size > size or (exact and info.file_size != limit):
                raise self._corrupt(f"{name} has {info.file_size} bytes instead of {limit}")
            data = bytearray(info.file_size)
            view, done = memoryview(data), 0
            with self._zip.open(info) as member:
                while chunk := member.read(2**20):  # checks the CRC at the end
                    view[done : done + len(chunk)] = chunk
                    done += len(chunk)
        except (CheckpointError, OSError):
            raise
        except Exception as error:  # zipfile fails in many ways on damaged archives
            raise self._corrupt(f"{name} cannot be read ({error})") from error
        if done != len(data):
            raise self._corrupt(f"{name} is cut short")
        return data

    def _corrupt(self, what: str) -> CheckpointError:
        return CheckpointError(f"{self.path} is truncated or damaged: {what}. Fetch it again.")
