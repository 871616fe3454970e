"""Checkpoint files: what they are, the tensors in them, and the network among those.

Three layouts are published: safetensors, Lightning training checkpoints and TorchScript archives. A file is recognised
by its content, never by its name. Nothing in it is executed.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import safetensors
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from models.errors import CheckpointError
from models.weights.unpickler import LEGACY_MAGIC, named_tensors, unpickle

Layout = Literal["safetensors", "lightning", "torchscript", "torch"]
Family = Literal["LaMa", "MI-GAN"]

# A key that every network of a family has and no other network we know of. Then the start of all its keys.
FIRST_KEYS: dict[Family, str] = {"LaMa": "model.1.ffc.convl2l.weight", "MI-GAN": "encoder.b512.fromrgb.weight"}
_KEYS: dict[Family, str] = {"LaMa": r"model\.\d+\.", "MI-GAN": r"(encoder|synthesis)\.b\d+\."}

_HEADER_LIMIT_BYTES = 100 * 2**20  # the limit of the safetensors format
_NAMED_AT_MOST = 5  # keys in one error message


@dataclass(frozen=True)
class Checkpoint:
    """A file's tensors under the names they have there.

    tensors: on the CPU, in the dtype they are stored in. metadata: what the file says of itself, unverified.
    layout: `lightning` has a `state_dict`, and only that is read; `torch` is any other `torch.save`.
    """

    path: Path
    layout: Layout
    tensors: dict[str, Tensor]
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class NetworkWeights:
    """A network's tensors in a checkpoint. prefix: of their keys in the file; it is taken off here."""

    family: Family
    prefix: str
    tensors: dict[str, Tensor]


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read every tensor of a checkpoint; takes about the file's size in memory.

    Raises CheckpointError, naming the file and the remedy, when it is missing, truncated, damaged, or no checkpoint.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            head = file.read(512)
        if head[:4] == b"PK\x03\x04" or head.startswith(LEGACY_MAGIC):
            found = _read_pickled(path)
        elif head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= _HEADER_LIMIT_BYTES:
            with safetensors.safe_open(path, "pt") as opened:
                metadata = dict(opened.metadata() or {})
            found = Checkpoint(path, "safetensors", load_file(path), metadata)
        else:
            raise CheckpointError(f"{path} {_what_else(head)}")
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # a damaged file fails in many ways
        raise CheckpointError(
            f"{path} is truncated or damaged ({str(error) or type(error).__name__}). Fetch it again."
        ) from error
    if not found.tensors:
        raise CheckpointError(
            f"{path} ({found.layout}) holds no named tensors: give a checkpoint with the network's weights"
        )
    return found


def find_weights(checkpoint: Checkpoint) -> NetworkWeights:
    """Find the LaMa or MI-GAN in a checkpoint, whatever prefix its keys have in the file.

    Other modules' keys and `num_batches_tracked` are left out. The network may be incomplete (`check_weights`).
    Raises CheckpointError if there is none, or several and it is unclear which is meant.
    """
    for family, first in FIRST_KEYS.items():
        prefixes = [key.removesuffix(first) for key in checkpoint.tensors if f".{key}".endswith(f".{first}")]
        if len(prefixes) > 1:  # training may keep a running average of the generator beside it
            prefixes = [p for p in prefixes if p.split(".")[-2:-1] == ["generator"]] or prefixes
        if len(prefixes) > 1:
            raise CheckpointError(
                f"{checkpoint.path} holds {len(prefixes)} {family} generators, under {_some(prefixes)}: "
                "give a file with only the one you mean"
            )
        if prefixes:
            pattern = re.compile(re.escape(prefixes[0]) + _KEYS[family])
            return NetworkWeights(
                family,
                prefixes[0],
                {
                    key.removeprefix(prefixes[0]): value
                    for key, value in checkpoint.tensors.items()
                    if pattern.match(key) and not key.endswith(".num_batches_tracked")
                },
            )
    parts = [k for k in checkpoint.tensors if re.search(r"(^|\.)model\.\d+\.(conv[12]\.)?ffc\.conv", k)]
    if parts:
        raise CheckpointError(
            f"{checkpoint.path} holds only part of a LaMa generator: {FIRST_KEYS['LaMa']} is missing, though it has "
            f"{len(parts)} keys like {parts[0]}. Fetch the file again."
        )
    raise CheckpointError(
        f"{checkpoint.path} is the checkpoint of another network: no key ends in {' or '.join(FIRST_KEYS.values())}. "
        f"Its {len(checkpoint.tensors)} tensors are {_some(checkpoint.tensors)}."
    )


def check_weights(
    expected: Mapping[str, tuple[int, ...]], got: Mapping[str, Tensor], *, path: os.PathLike[str], what: str
) -> dict[str, Tensor]:
    """Compare tensors with the names and shapes a network needs, and return copies of them in float32.

    `what` names the network. Raises CheckpointError naming some of the missing keys, surplus keys and wrong shapes, and
    how many there are of each, or the tensor that holds NaN or infinity.
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
    weights = {
        key: value.to(torch.float32, copy=True, memory_format=torch.contiguous_format) for key, value in got.items()
    }
    for key, value in weights.items():
        if bad := int((~value.isfinite()).sum()):
            raise CheckpointError(
                f"{os.fspath(path)} cannot be used for {what}: {bad} of the {value.numel()} values of its tensor {key} "
                "are NaN or infinite. Fetch the file again, or give another checkpoint; if you trained it, the run "
                "had diverged."
            )
    return weights


def save_safetensors(state: Mapping[str, Tensor], path: str | os.PathLike[str], metadata: Mapping[str, str]) -> None:
    """Write tensors to a safetensors file that is either complete or not there, whatever happens meanwhile.

    An existing file is replaced. Raises OSError (disk full, no permission), leaving no partial file behind.
    """
    path = Path(path)
    # Copies, because the format knows no shared memory: tied weights are written twice.
    tensors = {
        key: value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format) for key, value in state.items()
    }
    content = save(tensors, dict(metadata))
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _read_pickled(path: Path) -> Checkpoint:
    with path.open("rb") as file:
        root, torchscript = unpickle(file)
    layout: Layout = "torchscript" if torchscript else "torch"
    metadata: dict[str, str] = {}
    if isinstance(root, dict) and "state_dict" in root and not torchscript:
        layout = "lightning"
        metadata = {str(k): str(v) for k, v in dict.items(root) if isinstance(v, (str, int, float))}
        root = dict.get(root, "state_dict")
    return Checkpoint(path, layout, named_tensors(root), metadata)


def _what_else(head: bytes) -> str:
    """Why a file that is no checkpoint is none, as the rest of a sentence."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not head:
        return "is empty: the download did not succeed. Fetch it again."
    if text.startswith(b"<"):
        return "is a web page, not a checkpoint: the server answered with a page. Fetch the file itself."
    if text.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the checkpoint: run `git lfs pull`, or download the file itself."
    if head[:1] == b"\x80":
        return "is a bare pickle, which is not read because it could run code: give a safetensors file."
    return "is not a checkpoint (safetensors, Lightning .ckpt or TorchScript .pt), or is cut off at the start."


def _some(names: Iterable[str]) -> str:
    names = list(names)
    more = len(names) - _NAMED_AT_MOST
    return ", ".join(names[:_NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")


def _shape(shape: Iterable[int]) -> str:
    return "x".join(str(n) for n in shape) or "a scalar"
