"""Checkpoint files: what they are, the tensors in them, and LaMa's generator among those.

Three layouts are published (see METHOD in docs/architecture.md): safetensors, Lightning training checkpoints
and TorchScript archives. A file is recognised by its content, never by its name; nothing in it is executed.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import safetensors
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.errors import CheckpointError
from models.networks.lama.model import LamaConfig
from models.weights.archive import LEGACY_MAGIC, PickledFile

Layout = Literal["safetensors", "lightning", "torchscript", "torch"]

FIRST_KEY = "model.1.ffc.convl2l.weight"  # every LaMa generator has it, and no other network we know of
MIGAN_KEY = "encoder.b512.fromrgb.weight"

_HEADER_LIMIT = 100 * 2**20  # bytes; safetensors' own limit
_NAMED_AT_MOST = 5  # keys in one error message


@dataclass(frozen=True)
class Checkpoint:
    """A file's tensors under the names they have there.

    tensors: on the CPU, in the dtype they are stored in. metadata: what the file says of itself, unverified.
    layout: `lightning` has a `state_dict` and only that is read; `torch` is any other `torch.save`.
    """

    path: Path
    layout: Layout
    tensors: dict[str, Tensor]
    metadata: dict[str, str] = field(default_factory=dict)


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read every tensor of a checkpoint; takes about the file's size in memory.

    Raises CheckpointError, naming the file and the remedy, when it is missing, truncated, damaged, or no
    checkpoint.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(512)
        if head[:4] == b"PK\x03\x04" or head.startswith(LEGACY_MAGIC):
            found = _read_pickled(path)
        elif head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= _HEADER_LIMIT:
            found = _read_safetensors(path)
        else:
            raise CheckpointError(f"{path} {_what_else(head, size)}")
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
    if not found.tensors:
        raise CheckpointError(
            f"{path} ({found.layout}) holds no named tensors: give a checkpoint with the network's weights"
        )
    return found


def lama_state(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """LaMa's generator out of a checkpoint: keys start `model.N`, whatever prefix they have in the file.

    Other modules' keys and `num_batches_tracked` are left out. Completeness is `check_keys`' business.
    Raises CheckpointError if there is no LaMa generator, or several and it is unclear which is meant.
    """
    prefix = _lama_prefix(checkpoint)
    start = len(prefix)
    pattern = re.compile(re.escape(prefix) + r"model\.\d+\.")
    return {
        key[start:]: value
        for key, value in checkpoint.tensors.items()
        if pattern.match(key) and not key.endswith(".num_batches_tracked")
    }


def check_keys(
    expected: Mapping[str, tuple[int, ...]], got: Mapping[str, Tensor], *, path: os.PathLike[str], what: str
) -> None:
    """Compare a state dict with the names and shapes a network needs.

    `what` names the network. Raises CheckpointError naming some of the missing keys, surplus keys and wrong
    shapes, and how many there are of each.
    """
    problems = []
    if missing := [key for key in expected if key not in got]:
        problems.append(f"{len(missing)} of {len(expected)} keys are missing ({_some(missing)})")
    if surplus := [key for key in got if key not in expected]:
        problems.append(f"{len(surplus)} surplus keys ({_some(surplus)})")
    wrong = [
        f"{key} is {_shape(got[key].shape)} instead of {_shape(shape)}"
        for key, shape in expected.items()
        if key in got and tuple(got[key].shape) != tuple(shape)
    ]
    if wrong:
        problems.append(f"{len(wrong)} wrong shapes ({_some(wrong)})")
    if problems:
        raise CheckpointError(
            f"{os.fspath(path)} does not fit {what}: {'; '.join(problems)}. "
            "Fetch the file again, or give the checkpoint of this network."
        )


def describe(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a checkpoint is, JSON-able, for people to read.

    Keys: path, layout, bytes, sha256, network, parameters (a count, with BatchNorm's statistics), dtypes
    (name to number of tensors), prefix (before `model.N`, None if not LaMa), tensors, ignored (tensors of
    other modules), metadata. Raises CheckpointError like `read_checkpoint`; an unknown network is no error.
    """
    found = read_checkpoint(path)
    network, prefix, state = "unknown", None, found.tensors
    if MIGAN_KEY in state:
        network = "MI-GAN"
    elif any(key.endswith(FIRST_KEY) for key in state):
        prefix, state = _lama_prefix(found), lama_state(found)
        network = _lama_name(state)
    with found.path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "path": str(found.path),
        "layout": found.layout,
        "bytes": found.path.stat().st_size,
        "sha256": digest,
        "network": network,
        "parameters": sum(value.numel() for value in state.values()),
        "dtypes": dict(Counter(str(v.dtype).removeprefix("torch.") for v in state.values())),
        "prefix": prefix,
        "tensors": len(state),
        "ignored": len(found.tensors) - len(state),
        "metadata": found.metadata,
    }


def save_safetensors(state: Mapping[str, Tensor], path: str | os.PathLike[str], metadata: Mapping[str, str]) -> None:
    """Write tensors to a safetensors file that is either complete or not there, whatever happens meanwhile.

    An existing file is replaced. Raises OSError (disk full, no permission), leaving no partial file behind.
    """
    path = Path(path)
    blocks: set[int] = set()
    tensors = {}
    for key, value in state.items():
        value = value.detach().cpu().contiguous()
        block = value.untyped_storage().data_ptr()
        # The format knows no shared memory, and `save_file` refuses it: tied weights are written twice.
        tensors[key] = value.clone() if block in blocks else value
        blocks.add(block)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.touch(exist_ok=False)
        mode = temporary.stat().st_mode  # as the user's umask wants it; `save_file` makes files private
        try:
            save_file(tensors, temporary, dict(metadata))
        except safetensors.SafetensorError as error:
            code = re.search(r"os error (\d+)", str(error))  # how Rust prints errno
            number = int(code[1]) if code else 5
            raise OSError(number, os.strerror(number), str(path)) from error
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(mode)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _read_safetensors(path: Path) -> Checkpoint:
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = dict(file.metadata() or {})
        return Checkpoint(path, "safetensors", load_file(path), metadata)
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"{path} is truncated or damaged ({error}). Fetch it again.") from error


def _read_pickled(path: Path) -> Checkpoint:
    with PickledFile(path) as file:
        root, layout, metadata = file.root, "torchscript" if file.torchscript else "torch", {}
        if isinstance(root, dict) and "state_dict" in root and not file.torchscript:
            layout = "lightning"
            metadata = {str(k): str(v) for k, v in root.items() if isinstance(v, (str, int, float))}
            root = root["state_dict"]
        tensors = {name: file.read(lazy) for name, lazy in file.tensors(root)}
    return Checkpoint(path, layout, tensors, metadata)  # type: ignore[arg-type]


def _what_else(head: bytes, size: int) -> str:
    """Why a file that is no checkpoint is none, as the rest of a sentence."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if size == 0:
        return "is empty: the download did not succeed. Fetch it again."
    if text.startswith(b"<"):
        return "is a web page, not a checkpoint: the server answered with a page. Fetch the file itself."
    if text.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the checkpoint: run `git lfs pull`, or download the file itself."
    if head[:1] == b"\x80":
        return "is a bare pickle, which is not read because it could run code: give a safetensors file."
    return "is not a checkpoint (safetensors, Lightning .ckpt or TorchScript .pt), or is cut off at the start."


def _lama_prefix(checkpoint: Checkpoint) -> str:
    keys = checkpoint.tensors
    prefixes = [k.removesuffix(FIRST_KEY) for k in keys if re.search(rf"(^|\.){re.escape(FIRST_KEY)}$", k)]
    if len(prefixes) > 1:  # training may keep a running average of the generator beside it
        prefixes = [p for p in prefixes if p.split(".")[-2:-1] == ["generator"]] or prefixes
    if len(prefixes) == 1:
        return prefixes[0]
    if prefixes:
        raise CheckpointError(
            f"{checkpoint.path} holds {len(prefixes)} LaMa generators, under {_some(prefixes)}: "
            "give a file with only the one you mean"
        )
    parts = [k for k in keys if re.search(r"(^|\.)model\.\d+\.(conv[12]\.)?ffc\.conv", k)]
    if parts:
        raise CheckpointError(
            f"{checkpoint.path} holds only part of a LaMa generator: {FIRST_KEY} is missing, though it has "
            f"{len(parts)} keys like {parts[0]}. Fetch the file again."
        )
    raise CheckpointError(
        f"{checkpoint.path} is the checkpoint of another network: no key ends in {FIRST_KEY}. "
        f"Its {len(keys)} tensors are {_some(keys)}."
    )


def _lama_name(state: Mapping[str, Tensor]) -> str:
    try:
        config = LamaConfig.from_state(state)
    except CheckpointError:
        return "LaMa, incomplete"
    ratio = config.global_channels / (config.global_channels + config.local_channels)
    return f"LaMa ngf {config.ngf}, {config.blocks} blocks, global ratio {ratio:.4g}"


def _some(names: Iterable[str]) -> str:
    names = list(names)
    more = len(names) - _NAMED_AT_MOST
    return ", ".join(names[:_NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")


def _shape(shape: Iterable[int]) -> str:
    return "x".join(str(n) for n in shape) or "a scalar"
