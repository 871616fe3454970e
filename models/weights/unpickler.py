"""Read the tensors of a file that PyTorch pickled (`torch.save`, Lightning, TorchScript) without running the pickle.

A pickle is a program that names the functions to call. `_Unpickler` imports none of them: the functions that rebuild
tensors have stand-ins here, and every other name becomes `Inert`, which ignores what is done to it.

`torch.load(weights_only=True)` does not replace this. It refuses TorchScript archives, which is what the published
Big-LaMa is, and training checkpoints that name other classes, and it does not compare the archive's CRC sums.
"""

from __future__ import annotations

import functools
import io
import math
import os
import pickle
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, ClassVar, NamedTuple

import torch
from torch import Tensor

from models.errors import CheckpointError

LEGACY_MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # the first object in a file from before PyTorch 1.6

# Real pickles take about 1 MB; the tensors' values lie beside them. A hostile byte can become 200 bytes of objects.
_MAX_PICKLE_BYTES = 8 * 2**20
_MAX_OBJECTS = 200_000  # real checkpoints hold thousands; a hostile one can nest objects so that they never end
_MAX_NAME_LENGTH = 300  # characters; each level of nesting adds at least one, so this bounds the depth too


class Inert:
    """Stands for any class, function or object that a pickle names; accepts every operation and does nothing.

    It keeps a state that is a dict, because TorchScript archives hold submodules and parameters there.
    """

    state: object = None

    def __new__(cls, *_args: object, **_kwargs: object) -> Inert:
        """Ignore the arguments."""
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        self.state = state if isinstance(state, dict) else None

    def __call__(self, *_args: object) -> Inert:
        """Return another inert object."""
        return Inert()

    def append(self, *_: object) -> None:
        """Drop an item."""

    __setitem__ = add = append


class _Storage(NamedTuple):
    """The values of one or more tensors. A tuple, because a pickle may try to alter what it is given."""

    data: bytearray
    dtype: torch.dtype


class _Rebuilt(NamedTuple):
    """A tensor, out of the pickle's reach."""

    tensor: Tensor


def _rebuild(storage: Any, offset: Any, shape: Any, strides: Any, *_: object) -> object:
    """Make a tensor; offset and strides count elements. Raises ValueError when it does not lie within its storage."""
    if not isinstance(storage, _Storage):
        return Inert()
    data, dtype = storage
    offset, shape, strides = int(offset), tuple(map(int, shape)), tuple(map(int, strides))
    if len(shape) != len(strides) or min((*shape, *strides, offset)) < 0:
        raise ValueError("a tensor has an impossible shape")
    available, size = len(data) // dtype.itemsize, math.prod(shape)
    if size == 0:
        return _Rebuilt(torch.empty(shape, dtype=dtype))
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    # The second test refuses repeated elements (stride 0): a few bytes could claim to be terabytes.
    if last >= available or size > available:
        raise ValueError("a tensor reaches past the end of its data")
    return _Rebuilt(torch.frombuffer(data, dtype=dtype, count=available).as_strided(shape, strides, offset))


def _rebuild_v3(storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> object:
    _requires_grad, _hooks, dtype, *_ = rest
    return _rebuild(storage._replace(dtype=dtype), offset, shape, strides)


_REBUILD: dict[str, Callable[..., object]] = {
    "_rebuild_tensor": _rebuild,
    "_rebuild_tensor_v2": _rebuild,
    "_rebuild_tensor_v3": _rebuild_v3,
    "_rebuild_parameter": lambda data, *_: data,
    "_rebuild_parameter_with_state": lambda data, *_: data,
}


def _storage_dtype(name: str) -> Any:
    """The dtype of a class such as FloatStorage. Quantised storages are not read: they are inert."""
    if name == "UntypedStorage":
        return torch.uint8
    dtype = None if name.startswith("Q") else getattr(getattr(torch, name, None), "_dtype", None)
    return dtype if isinstance(dtype, torch.dtype) else Inert


# The pure Python unpickler, because the C one allocates its memo up to any index that a file names.
class _Unpickler(pickle._Unpickler):
    """Unpickles containers and tensors. Imports and calls nothing that a file names."""

    def __init__(self, file: Any, storage: Callable[[str, int], bytearray]) -> None:
        """storage: returns the values of the storage with this key and number of bytes."""
        super().__init__(file)
        self._storage = functools.cache(storage)

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in for a name. Functions are new objects, because a pickle may alter what it is given."""
        if (module, name) == ("collections", "OrderedDict"):
            return lambda: OrderedDict()  # no arguments: copies of one large list could fill the memory
        if module == "torch._utils" and name in _REBUILD:
            return functools.partial(_REBUILD[name])
        if module in ("torch", "torch.storage") and name.endswith("Storage"):
            return _storage_dtype(name)
        if module == "torch" and isinstance(dtype := vars(torch).get(name), torch.dtype):
            return dtype
        return Inert

    def get_extension(self, code: int) -> None:
        """Refuse short codes for registered names: they would bypass `find_class`."""
        raise pickle.UnpicklingError(f"extension code {code}")

    def _load_bytearray(self: Any) -> None:
        """Read a bytearray. The method that this replaces first allocates as many bytes as the file claims."""
        self.append(bytearray(self.read(int.from_bytes(self.read(8), "little"))))

    dispatch: ClassVar[dict[int, Any]] = {**pickle._Unpickler.dispatch, pickle.BYTEARRAY8[0]: _load_bytearray}

    def persistent_load(self, pid: Any) -> object:
        """Return a storage that lies beside the pickle; one of a kind that is not read (quantised) is inert."""
        kind, dtype, key, _location, count, *view = pid
        if kind != "storage" or view not in ([], [None]):  # views: PyTorch 0.3 and older
            raise pickle.UnpicklingError("unknown persistent object")
        if not isinstance(dtype, torch.dtype):
            return Inert()
        return _Storage(self._storage(str(key), int(count) * dtype.itemsize), dtype)


def unpickle(file: BinaryIO) -> tuple[object, bool]:
    """Read an object that `torch.save` or TorchScript wrote, and whether it is TorchScript's.

    It is made of containers, `Inert` and tensors for `named_tensors`. Damaged and hostile files raise any Exception,
    but take no more memory than the file and its pickle need. CheckpointError: the file is whole but of no use.
    """
    if file.read(len(LEGACY_MAGIC)) == LEGACY_MAGIC:
        return _unpickle_legacy(file), False
    archive = zipfile.ZipFile(file)
    names = archive.namelist()
    pickles = [name for name in names if name == "data.pkl" or name.endswith("/data.pkl")]
    if len(pickles) != 1:
        inner = [name for name in names if name.lower().endswith((".ckpt", ".pt", ".pth", ".safetensors"))]
        advice = f" Unpack it and give {inner[0]}." if inner else ""
        raise CheckpointError(
            f"{file.name} is a zip archive, but not a checkpoint: it has no data.pkl, which PyTorch "
            f"writes into every one.{advice}"
        )
    prefix = pickles[0].removesuffix("data.pkl")
    claim = _claims(file)

    def member(name: str, size: int | None = None) -> bytearray:
        info = archive.getinfo(prefix + name)
        if size not in (None, info.file_size):
            raise ValueError(f"{name} has {info.file_size} bytes instead of {size}")
        claim(info.file_size)
        return bytearray(archive.read(info))  # compares the CRC sum

    if prefix + "byteorder" in names and member("byteorder") != sys.byteorder.encode():
        raise CheckpointError(
            f"{file.name} has the other byte order than this machine: convert it to safetensors there"
        )
    if archive.getinfo(pickles[0]).file_size > _MAX_PICKLE_BYTES:
        raise ValueError("its description of the tensors is too long")
    root = _Unpickler(io.BytesIO(member("data.pkl")), lambda key, size: member(f"data/{key}", size)).load()
    return root, any(name.startswith((prefix + "constants.pkl", prefix + "code/")) for name in names)


def _unpickle_legacy(file: BinaryIO) -> object:
    """Read a file from before PyTorch 1.6: four pickles, of which the fourth names the storages that follow."""
    start, claim = file.tell(), _claims(file)
    stream = io.BytesIO(file.read(_MAX_PICKLE_BYTES))
    storages: dict[str, bytearray] = {}

    def storage(key: str, size: int) -> bytearray:
        claim(size)
        return storages.setdefault(key, bytearray(size))

    _version, _system, root, keys = (_Unpickler(stream, storage).load() for _ in range(4))
    file.seek(start + stream.tell())
    for key in keys:
        file.seek(8, os.SEEK_CUR)  # the number of elements once more
        if file.readinto(storages[str(key)]) != len(storages[str(key)]):  # type: ignore[attr-defined]
            raise ValueError("it ends in the middle of its tensors")
    return root


def _claims(file: BinaryIO) -> Callable[[int], None]:
    """Return what to call before reading so many bytes: it refuses more than the file has in all.

    PyTorch compresses no tensors, so a file whose tensors are larger than itself is a bomb.
    """
    left = os.fstat(file.fileno()).st_size

    def claim(size: int) -> None:
        nonlocal left
        left -= size
        if size < 0 or left < 0:
            raise ValueError("its tensors are larger than the file")

    return claim


def named_tensors(root: object) -> dict[str, Tensor]:
    """Collect every tensor below `root` under its dotted name, in the file's order. ValueError if they never end."""
    found = {}
    for count, (name, node) in enumerate(_walk(root, "")):
        if count > _MAX_OBJECTS:
            raise ValueError("it nests objects without end")
        if isinstance(node, _Rebuilt):
            found[name.removeprefix(".")] = node.tensor
    return found


def _walk(node: object, name: str) -> Iterator[tuple[str, object]]:
    """Yield every object below `node`, depth first, with its dotted name."""
    if len(name) > _MAX_NAME_LENGTH:
        raise ValueError("it nests objects without end")
    yield name, node
    if isinstance(node, Inert):
        node = node.state
    children: Any = ()
    if isinstance(node, dict):
        children = dict.items(node)  # of the class: a pickle may have put another `items` into the object
    elif isinstance(node, (list, tuple)) and not isinstance(node, _Rebuilt):
        children = enumerate(node)
    for key, value in children:
        if isinstance(key, (str, int)):
            yield from _walk(value, f"{name}.{key}")
