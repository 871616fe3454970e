"""Checkpoints in every layout, at full size and small, of one network or several, and how they are saved."""

import argparse
import collections
import datetime
import functools
import hashlib
import json
import os
import pathlib
import subprocess
import sys
import types

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from models.errors import CheckpointError
from models.networks.registry import describe_checkpoint, load_network
from models.weights.checkpoint import check_weights, find_weights, read_checkpoint, save_safetensors
from tests.checkpoints import BIG, PREFIXES, SMALL, WRITERS, assert_same, counters, shapes, state_of

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("layout", WRITERS)
def test_full_size_checkpoint_loads_and_is_described(layout, tmp_path):
    path, state = tmp_path / "file", state_of(BIG)
    WRITERS[layout](path, BIG, state)
    got = find_weights(read_checkpoint(path)).tensors
    assert_same(got, state)
    check_weights(shapes(BIG), got, path=path, what="Big-LaMa")
    del got, state

    about = describe_checkpoint(path)
    assert json.loads(json.dumps(about)) == about
    assert about["layout"] == layout
    assert about["network"] == "LaMa ngf 64, 18 blocks, global ratio 0.75"
    assert round(about["parameters"] / 1e6, 1) == 51.1
    assert about["prefix"] == PREFIXES[layout]
    assert about["dtypes"] == {"float32": len(shapes(BIG))}
    assert about["bytes"] == path.stat().st_size > 204e6
    with path.open("rb") as file:
        assert about["sha256"] == hashlib.file_digest(file, "sha256").hexdigest()
    if layout == "lightning":
        assert about["metadata"] == {
            "epoch": "39",
            "global_step": "1000000",
            "pytorch-lightning_version": "1.2.9",
        }
        assert about["ignored"] == len(counters(BIG)) + 4
    path.unlink()


def test_reading_takes_no_more_than_twice_the_file(tmp_path):
    path = tmp_path / "file"
    WRITERS["torchscript"](path, BIG, state_of(BIG))
    code = (
        "import resource, sys\n"
        "from models.weights.checkpoint import find_weights, read_checkpoint\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak(); state = find_weights(read_checkpoint(sys.argv[1])).tensors\n"
        "print((peak() - before) * (1 if sys.platform == 'darwin' else 1024), len(state))"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    taken, count = map(int, done.stdout.split())
    assert count == len(shapes(BIG))
    assert taken < 2 * path.stat().st_size
    path.unlink()


@pytest.mark.parametrize("layout", WRITERS)
def test_tensors_can_be_changed_without_harm(layout, small):
    paths, state = small
    before = paths[layout].read_bytes()
    for value in find_weights(read_checkpoint(paths[layout])).tensors.values():
        value.zero_()
    assert paths[layout].read_bytes() == before
    assert_same(find_weights(read_checkpoint(paths[layout])).tensors, state)


@pytest.mark.parametrize("legacy", [False, True])
def test_every_kind_of_tensor_that_torch_saves(legacy, tmp_path):
    base = torch.arange(24.0).view(4, 6)
    tensors = {
        "plain": base,
        "transposed": base.t(),
        "slice": base[1:3, ::2],
        "scalar": torch.tensor(5),
        "empty": torch.empty(0, 3),
        "parameter": torch.nn.Parameter(torch.ones(2, 2)),
        "bfloat16": torch.ones(3, dtype=torch.bfloat16),
        "half": torch.ones(3, dtype=torch.float16),
        "double": torch.ones(3, dtype=torch.float64),
        "bool": torch.tensor([True, False]),
        "complex": torch.tensor([1 + 2j]),
        "uint16": torch.tensor([65535], dtype=torch.uint16),
        "float8": torch.ones(3).to(torch.float8_e4m3fn),
    }
    path = tmp_path / "file"
    torch.save({"net": [tensors]}, path, _use_new_zipfile_serialization=not legacy)
    found = read_checkpoint(path)
    assert found.layout == "torch"
    assert found.tensors.keys() == {f"net.0.{k}" for k in tensors}
    for key, value in tensors.items():
        got = found.tensors[f"net.0.{key}"]
        assert (got.dtype, got.shape) == (value.dtype, value.shape), key
        assert (
            got.flatten().contiguous().view(torch.uint8).tolist()
            == value.detach().flatten().contiguous().view(torch.uint8).tolist()
        )


def test_foreign_classes_in_a_training_checkpoint_are_neither_imported_nor_needed(tmp_path, monkeypatch):
    module = types.ModuleType("omegaconf_lookalike")
    source = (
        "class Config(dict):\n"
        "    def __setstate__(self, state): raise RuntimeError('was called')\n"
        "    def __getstate__(self): return {'_content': 1, 'me': self}\n"
        "class Slotted:\n"
        "    __slots__ = ('x',)\n"
        "class Listed(list): pass\n"
        "def make(*args): raise RuntimeError('was called')\n"
        "class Made:\n"
        "    def __reduce__(self): return (make, (1, 2))\n"
    )
    exec(source, module.__dict__)  # a module that exists only while the file is written
    monkeypatch.setitem(sys.modules, "omegaconf_lookalike", module)
    slotted = module.Slotted()
    slotted.x = 3
    state = state_of(SMALL)
    content = {
        "hyper_parameters": module.Config(lr=0.1, sub=module.Config(a=1)),
        "callbacks": [slotted, module.Listed([1, 2]), module.Made(), {module.Slotted: 1}],
        "others": [
            argparse.Namespace(a=1),
            pathlib.PurePosixPath("/x"),
            collections.defaultdict(list, a=[1]),
            functools.partial(print, 1),
            {1, 2},
            frozenset([3]),
            datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC),
            np.float64(0.5),
            np.arange(3),
            torch.float16,
            torch.device("cpu"),
            torch.Size([1, 2]),
        ],
        "state_dict": {f"generator.{k}": v for k, v in state.items()},
    }
    for protocol in range(2, 6):
        path = tmp_path / f"{protocol}.ckpt"
        torch.save(content, path, pickle_protocol=protocol)
        monkeypatch.delitem(sys.modules, "omegaconf_lookalike")
        found = read_checkpoint(path)
        assert "omegaconf_lookalike" not in sys.modules
        monkeypatch.setitem(sys.modules, "omegaconf_lookalike", module)
        assert found.layout == "lightning"
        assert_same(find_weights(found).tensors, state)


def test_a_foreign_network_is_recognised_as_foreign(tmp_path):
    path = tmp_path / "resnet.pt"
    torch.save({"layer1.0.conv1.weight": torch.ones(4, 4, 3, 3), "model.1.weight": torch.ones(2)}, path)
    with pytest.raises(CheckpointError, match=r"another network.*layer1\.0\.conv1\.weight"):
        find_weights(read_checkpoint(path))
    assert describe_checkpoint(path)["network"] == "unknown"
    assert describe_checkpoint(path)["prefix"] is None


@pytest.mark.parametrize("prefix", ["", "generator.", "model.", "model.model.", "module.a.model.1."])
def test_any_prefix_and_other_modules_are_stripped(prefix, tmp_path):
    state, path = state_of(SMALL), tmp_path / "file"
    others = {"discriminator.model.1.weight": torch.ones(1), "zmodel.1.ffc.convl2l.weight": torch.ones(1)}
    save_file({prefix + k: v for k, v in state.items()} | others, path)
    assert_same(find_weights(read_checkpoint(path)).tensors, state)
    assert describe_checkpoint(path)["ignored"] == 2


def test_two_generators_are_told_apart_or_refused(tmp_path):
    path, first, second = tmp_path / "file", state_of(SMALL, 1), state_of(SMALL, 2)
    torch.save(
        {"generator_average." + k: v for k, v in second.items()} | {"generator." + k: v for k, v in first.items()},
        path,
    )
    assert_same(find_weights(read_checkpoint(path)).tensors, first)
    torch.save({"a." + k: v for k, v in first.items()} | {"b." + k: v for k, v in second.items()}, path)
    with pytest.raises(CheckpointError, match=r"2 LaMa generators, under a\., b\."):
        find_weights(read_checkpoint(path))


def test_a_partial_file_names_what_is_missing_surplus_and_misshapen(tmp_path):
    state, path = state_of(SMALL), tmp_path / "file"
    for key in [k for k in state if k.startswith("model.6.")]:
        del state[key]
    state["model.99.weight"] = torch.ones(1)
    state["model.2.bn_l.bias"] = torch.ones(3, 2)
    save_file(state, path)
    with pytest.raises(CheckpointError) as caught:
        check_weights(shapes(SMALL), find_weights(read_checkpoint(path)).tensors, path=path, what="LaMa")
    text = str(caught.value)
    assert "44 of 133 keys are missing (model.6." in text
    assert "and 39 more" in text
    assert "1 surplus keys (model.99.weight)" in text
    assert "model.2.bn_l.bias is 3x2 instead of 16" in text

    del state["model.1.ffc.convl2l.weight"]
    save_file(state, path)
    with pytest.raises(CheckpointError, match=r"only part of a LaMa.*model\.1\.ffc\.convl2l\.weight is missing"):
        find_weights(read_checkpoint(path))


BUILTIN = "models/weights/migan-512-places2.safetensors"


@pytest.mark.parametrize("prefix", ["module.", "generator.", "a.b."])
def test_migan_is_found_under_any_prefix(prefix, tmp_path):
    path, state = tmp_path / "file", load_file(BUILTIN)
    save_file({prefix + key: value for key, value in state.items()} | {"discriminator.b4.weight": torch.ones(1)}, path)
    weights = find_weights(read_checkpoint(path))
    assert (weights.family, weights.prefix) == ("MI-GAN", prefix)
    assert_same(weights.tensors, state)
    assert describe_checkpoint(path)["ignored"] == 1
    loaded, builtin = (load_network(str(name), device="cpu").state_dict() for name in (path, BUILTIN))
    assert_same(loaded, builtin)


@pytest.mark.parametrize("layout", WRITERS)
@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_a_tensor_that_is_not_finite_is_named(layout, value, tmp_path):
    path, state = tmp_path / "file", state_of(SMALL)
    state["model.5.conv2.ffc.convg2g.conv2.weight"][3, 2] = value
    WRITERS[layout](path, SMALL, state)
    with pytest.raises(CheckpointError, match=rf"{path}.* 1 of the 1152 values of its tensor model\.5\.conv2\.ffc"):
        load_network(str(path), device="cpu")


def test_half_precision_is_checked_and_becomes_float32(tmp_path):
    path = tmp_path / "file"
    save_file({key: value.half() for key, value in state_of(SMALL).items()}, path)
    loaded = load_network(str(path), device="cpu").state_dict()
    for key, value in state_of(SMALL).items():
        assert torch.equal(loaded[key], value.half().float())
    save_file({key: value.half() * 1e9 for key, value in state_of(SMALL).items()}, path)
    with pytest.raises(CheckpointError, match="NaN or infinite"):
        load_network(str(path), device="cpu")


def test_the_built_in_network_is_described():
    about = describe_checkpoint(BUILTIN)
    assert about["network"] == "MI-GAN"
    assert about["layout"] == "safetensors"
    assert about["dtypes"] == {"float16": 128}
    assert about["metadata"]["licence"].startswith("MIT")


# Writing


def test_saving_replaces_atomically_and_leaves_nothing_behind(tmp_path):
    path, base = tmp_path / "out.safetensors", torch.arange(6.0).view(2, 3)
    path.write_bytes(b"old")
    state = {"a": base, "tied": base, "turned": base.t(), "half": base.half(), "p": torch.nn.Parameter(base)}
    save_safetensors(state, path, {"licence": "MIT"})
    assert_same(load_file(path), state)
    assert read_checkpoint(path).metadata == {"licence": "MIT"}
    assert os.listdir(tmp_path) == ["out.safetensors"]
    (tmp_path / "ordinary").touch()
    assert path.stat().st_mode == (tmp_path / "ordinary").stat().st_mode  # others may read it, if they usually may


def test_a_failed_save_raises_oserror_and_keeps_the_old_file(tmp_path):
    code = (
        "import resource, sys, torch\n"
        "from models.weights.checkpoint import save_safetensors\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try: save_safetensors({'a': torch.ones(10**5)}, sys.argv[1], {})\n"
        "except OSError as error: print(error.errno)"
    )
    path = tmp_path / "out"
    path.write_bytes(b"old")
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert int(done.stdout) == 27, done  # EFBIG
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["out"]
    with pytest.raises(OSError, match="No such file"):
        save_safetensors({"a": torch.ones(1)}, tmp_path / "absent" / "out", {})
