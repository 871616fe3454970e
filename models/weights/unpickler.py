"""Unpickling what PyTorch writes without running anything the pickle says.

A pickle is a program that names the functions to call, so this unpickler never imports what a file names:
a few names have harmless stand-ins here, and every other becomes an `Inert` object, which swallows whatever
is done to it. Tensors come out as descriptions (`LazyTensor`); models/weights/archive.py reads their values.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any, NamedTuple

import torch

# The instructions alone: hundreds of kilobytes in practice. The cap keeps a hostile file from filling memory.
MAX_PICKLE_BYTES = 64 * 2**20
_MAX_NODES = 200_000  # of a tree that a hostile file can make look endless; real ones have thousands
_MAX_DEPTH = 64

_STORAGE_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexDoubleStorage": torch.complex128,
    "ComplexFloatStorage": torch.complex64,
    "UntypedStorage": torch.uint8,
}


class Inert:
    """Stands for any class, function or object a pickle names: keeps attributes, does nothing.

    Instances accept every operation a pickle can apply (call, set state, append, set item) and drop it,
    but for a state that is a dict: TorchScript archives keep submodules and parameters there.
    """

    state: dict[object, object]

    def __new__(cls, *args: object, **kwargs: object) -> Inert:
        """Ignore the arguments."""
        self = super().__new__(cls)
        self.state = {}  # here, because a pickle may create an object without initialising it
        return self

    def __init__(self, *args: object, **kwargs: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        self.state = state if isinstance(state, dict) else {}

    def __call__(self, *args: object, **kwargs: object) -> Inert:
        """Return another inert object."""
        return Inert()

    def __setitem__(self, key: object, value: object) -> None:
        pass

    def append(self, value: object) -> None:
        """Drop a list item."""

    def extend(self, values: object) -> None:
        """Drop list items."""

    def add(self, value: object) -> None:
        """Drop a set item."""


class Storage(NamedTuple):
    """A block of numbers in the file; immutable, because a pickle may try to alter what it was given."""

    key: str
    dtype: torch.dtype | None  # None: of a kind we do not read (quantised); an error only if asked for
    numel: int  # in elements of dtype

    @property
    def nbytes(self) -> int:
        """Size in the file."""
        return self.numel * self.dtype.itemsize if self.dtype else 0


class LazyTensor(NamedTuple):
    """A tensor that has been described but not read yet."""

    storage: Storage
    dtype: torch.dtype | None
    offset: int  # in elements, as are the strides
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Named:
    """A callable made afresh for every lookup, so that a file cannot tamper with anything shared."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., object]) -> None:
        self._function = function

    def __call__(self, *args: object) -> object:
        return self._function(*args)


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: object) -> object:
    if not isinstance(storage, Storage):
        return Inert()
    return LazyTensor(storage, storage.dtype, int(offset), _integers(shape), _integers(strides))


def _rebuild_tensor_v3(
    storage: Any, offset: Any, shape: Any, strides: Any, _grad: object, _hooks: object, dtype: Any, *_: object
) -> object:
    if not isinstance(storage, Storage) or not isinstance(dtype, torch.dtype):
        return Inert()
    return LazyTensor(storage, dtype, int(offset), _integers(shape), _integers(strides))


def _integers(values: Any) -> tuple[int, ...]:
    return tuple(int(v) for v in values)


def _first(data: object, *_: object) -> object:
    return data


_FUNCTIONS: Mapping[tuple[str, str], Callable[..., object]] = {
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _rebuild_tensor_v3,
    ("torch._utils", "_rebuild_parameter"): _first,
    ("torch._utils", "_rebuild_parameter_with_state"): _first,
}


# The pure Python unpickler: the C one allocates its memo up to any index a file names, gigabytes at once.
class _Unpickler(pickle._Unpickler):
    """Unpickles containers and tensor references; imports and calls nothing a file names."""

    def __init__(self, file: Any) -> None:
        super().__init__(file)
        self.storages: dict[str, Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a name."""
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if function := _FUNCTIONS.get((module, name)):
            return _Named(function)
        if module in ("torch", "torch.storage") and name.endswith("Storage"):
            return _Named(lambda: name)  # only ever looked at in persistent_load
        if module == "torch" and isinstance(dtype := vars(torch).get(name), torch.dtype):
            return dtype
        return type("Inert", (Inert,), {})

    def get_extension(self, code: int) -> None:
        """Refuse short codes for registered names: they would bypass `find_class`."""
        raise pickle.UnpicklingError(f"extension code {code}")

    def persistent_load(self, pid: Any) -> Storage:
        """The description of a storage beside the pickle."""
        kind, storage_type, key, _location, count, *view = pid
        if kind != "storage" or not isinstance(storage_type, _Named) or count < 0:
            raise pickle.UnpicklingError("unknown persistent object")
        if view and view[0] is not None:
            raise pickle.UnpicklingError("storage views, which only PyTorch 0.3 and older wrote")
        storage = Storage(str(key), _STORAGE_DTYPES.get(str(storage_type())), int(count))
        self.storages[storage.key] = storage
        return storage


class Bounded:
    """The part of a file object that an unpickler needs, refusing a single object of absurd size."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int) -> bytes:
        """Up to `size` bytes."""
        if not 0 <= size <= MAX_PICKLE_BYTES:
            raise pickle.UnpicklingError(f"an object of {size} bytes")
        return self._file.read(size)

    def readline(self) -> bytes:
        """Up to and with the next newline."""
        return self._file.readline(MAX_PICKLE_BYTES)


def unpickle(file: Any) -> tuple[Any, dict[str, Storage]]:
    """One object from a binary file (anything with `read` and `readline`), and the storages it refers to.

    Raises whatever a damaged pickle provokes, of any type: catch Exception.
    """
    unpickler = _Unpickler(file)
    return unpickler.load(), unpickler.storages


def walk(root: object) -> Iterator[tuple[str, LazyTensor]]:
    """Every tensor below `root` with its dotted name, in the file's order; ValueError if they never end."""
    for count, (name, found) in enumerate(_walk(root, "", 0)):
        if count > _MAX_NODES:
            raise ValueError("it nests objects without end")
        if isinstance(found, LazyTensor):
            yield name, found


def _walk(node: object, name: str, depth: int) -> Iterator[tuple[str, object]]:
    """Every object below `node`, depth first, with dotted names; deeper than any checkpoint is cut off."""
    yield name, node
    if isinstance(node, LazyTensor) or depth > _MAX_DEPTH:
        return
    if isinstance(node, Inert):
        node = node.state
    if isinstance(node, (list, tuple)):
        node = dict(enumerate(node))
    if isinstance(node, dict):
        for key, value in node.items():
            if isinstance(key, (str, int)):
                yield from _walk(value, f"{name}.{key}" if name else str(key), depth + 1)
