"""Checkpoints in every layout, at full size and small, whole, broken, foreign and hostile."""

import argparse
import collections
import copyreg
import datetime
import functools
import hashlib
import io
import json
import os
import pathlib
import pickle
import random
import subprocess
import sys
import types
import warnings
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from models.checkpoint import check_keys, describe, lama_state, read_checkpoint, save_safetensors
from models.errors import CheckpointError
from models.lama import Lama, LamaConfig

BIG = LamaConfig(64, 3, 18, 384)
SMALL = LamaConfig(8, 3, 2, 48)


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def shapes(config):
    with torch.device("meta"):
        return {k: tuple(v.shape) for k, v in Lama(config).state_dict().items() if "num_batches" not in k}


def state_of(config, seed=0):
    """A state dict with cheap values, different in every tensor."""
    numbers = torch.rand(4096, generator=torch.Generator().manual_seed(seed))
    return {
        key: numbers.roll(i).repeat(-(-torch.Size(shape).numel() // 4096))[: torch.Size(shape).numel()].view(shape)
        for i, (key, shape) in enumerate(shapes(config).items())
    }


class Predictor(torch.nn.Module):
    """The module tree of the published TorchScript archive: `model.generator.model.N`."""

    def __init__(self, config, state):
        super().__init__()
        with torch.device("meta"):
            generator = Lama(config)
        missing = generator.load_state_dict(state, strict=False, assign=True).missing_keys
        for key in missing:  # num_batches_tracked
            parent = generator.get_submodule(key.rpartition(".")[0])
            parent.num_batches_tracked = torch.tensor(7)
        self.model = torch.nn.Module()
        self.model.generator = generator
        self.model.discriminator = torch.nn.Conv2d(3, 4, 3)

    def forward(self, image, mask):
        return self.model.generator.rear(self.model.generator.front(image, mask))


def write_torchscript(path, config, state):
    module = Predictor(config, state).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated; the published file is one all the same
        traced = torch.jit.trace(module, (torch.zeros(1, 3, 64, 64), torch.zeros(1, 1, 64, 64)), check_trace=False)
        torch.jit.save(traced, str(path))


def write_lightning(path, config, state):
    values = {f"generator.{k}": v for k, v in state.items()}
    values |= {f"generator.{k}": torch.tensor(7) for k in _counters(config)}
    values |= {f"discriminator.model0.{i}.weight": torch.rand(8, 8, 4, 4) for i in range(3)}
    values["loss_resnet_pl.impl.conv1.weight"] = torch.rand(16, 3, 7, 7)
    torch.save(
        {
            "epoch": 39,
            "global_step": 1_000_000,
            "pytorch-lightning_version": "1.2.9",
            "state_dict": collections.OrderedDict(values),
            "optimizer_states": [{"state": {0: {"exp_avg": torch.rand(100, 100)}}}],
        },
        path,
    )


def write_safetensors(path, config, state):
    save_file({f"any.prefix.{k}": v for k, v in state.items()}, path, {"format": "pt"})


def write_legacy(path, config, state):
    torch.save({f"generator.{k}": v for k, v in state.items()}, path, _use_new_zipfile_serialization=False)


def _counters(config):
    with torch.device("meta"):
        return [k for k in Lama(config).state_dict() if "num_batches" in k]


WRITERS = {
    "safetensors": write_safetensors,
    "lightning": write_lightning,
    "torchscript": write_torchscript,
    "torch": write_legacy,
}
PREFIXES = {
    "safetensors": "any.prefix.",
    "lightning": "generator.",
    "torchscript": "model.generator.",
    "torch": "generator.",
}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """One small file of every layout: {layout: path}, and their state."""
    folder = tmp_path_factory.mktemp("small")
    state = state_of(SMALL)
    paths = {layout: folder / f"{layout}.bin" for layout in WRITERS}
    for layout, write in WRITERS.items():
        write(paths[layout], SMALL, state)
    return paths, state


def assert_same(got, expected):
    assert got.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(got[key], value), key


@pytest.mark.parametrize("layout", WRITERS)
def test_full_size_checkpoint_loads_and_is_described(layout, tmp_path):
    path, state = tmp_path / "file", state_of(BIG)
    WRITERS[layout](path, BIG, state)
    got = lama_state(read_checkpoint(path))
    assert_same(got, state)
    check_keys(shapes(BIG), got, path=path, what="Big-LaMa")
    del got, state

    about = describe(path)
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
        assert about["ignored"] == len(_counters(BIG)) + 4
    path.unlink()


def test_reading_takes_no_more_than_twice_the_file(tmp_path):
    path = tmp_path / "file"
    write_torchscript(path, BIG, state_of(BIG))
    code = (
        "import resource, sys\n"
        "from models.checkpoint import lama_state, read_checkpoint\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak(); state = lama_state(read_checkpoint(sys.argv[1]))\n"
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
    for value in lama_state(read_checkpoint(paths[layout])).values():
        value.zero_()
    assert paths[layout].read_bytes() == before
    assert_same(lama_state(read_checkpoint(paths[layout])), state)


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
        assert_same(lama_state(found), state)


# Hostile files


class Bomb:
    """Pickles into an instruction to call `function(*args)`."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def bombs(victim):
    write = f"open({str(victim)!r}, 'w').close()"
    return {
        "os.system": Bomb(os.system, f"touch '{victim}'"),
        "exec": Bomb(exec, write),
        "eval": Bomb(eval, write),
        "method": Bomb(pathlib.Path.touch, victim),
        "subprocess": Bomb(subprocess.check_call, ["touch", str(victim)]),
        "nested": {"state_dict": {"a": [Bomb(exec, write)]}},
        "torch": Bomb(torch.save, torch.ones(1), str(victim)),
    }


@pytest.mark.parametrize("kind", bombs(""))
@pytest.mark.parametrize("layout", ["zip", "legacy", "torchscript", "bare"])
def test_nothing_in_a_pickle_is_executed(kind, layout, tmp_path, small):
    victim, path = tmp_path / "victim", tmp_path / "file"
    bomb = bombs(victim)[kind]
    pickle.loads(pickle.dumps(bomb))
    assert victim.exists()  # it does explode when unpickled the ordinary way
    victim.unlink()

    content = {"state_dict": {"model.1.weight": torch.ones(3), "evil": bomb}, "hyper_parameters": bomb}
    if layout == "bare":
        path.write_bytes(pickle.dumps(content))
        with pytest.raises(CheckpointError, match="could run code"):
            read_checkpoint(path)
    elif layout == "torchscript":
        replace_pickle(small[0]["torchscript"], path, pickle.dumps(bomb))
        with pytest.raises(CheckpointError, match="no named tensors"):
            read_checkpoint(path)
    else:
        torch.save(content, path, _use_new_zipfile_serialization=layout == "zip")
        assert torch.equal(read_checkpoint(path).tensors["model.1.weight"], torch.ones(3))
    assert not victim.exists()


def test_a_pickle_can_neither_use_nor_change_registered_extensions(tmp_path, small):
    victim, path = tmp_path / "victim", tmp_path / "file"
    copyreg.add_extension(os.system.__module__, "system", 240)
    try:
        data = pickle.dumps(Bomb(os.system, f"touch '{victim}'"), 2)
        assert b"\x82\xf0" in data  # EXT1
        pickle.loads(data)  # puts os.system into the registry's cache
        victim.unlink()
        replace_pickle(small[0]["torchscript"], path, data)
        with pytest.raises(CheckpointError):
            read_checkpoint(path)
        assert not victim.exists()
    finally:
        copyreg.remove_extension(os.system.__module__, "system", 240)


def test_a_pickle_cannot_change_what_later_files_are_read_with(tmp_path, small):
    paths, state = small
    # the rebuild function, OrderedDict, a dtype and a foreign class, each given new attributes
    for name in (
        b"torch._utils\n_rebuild_tensor_v2",
        b"collections\nOrderedDict",
        b"torch\nfloat32",
        b"a\nb",
    ):
        for states in (b"(N}X\x09\x00\x00\x00_functionNst", b"}X\x09\x00\x00\x00__class__Ns"):
            path = tmp_path / "file"
            replace_pickle(paths["torchscript"], path, b"\x80\x02c" + name + b"\n" + states + b"b.")
            with pytest.raises(CheckpointError):
                read_checkpoint(path)
    for layout in paths:
        assert_same(lama_state(read_checkpoint(paths[layout])), state)


def tensor_pickle(offset=0, shape=(4,), strides=(1,), numel=4, kind="FloatStorage"):
    """A pickle of {'a': tensor} over storage 0, with any claims about it."""

    class Tensor:
        def __reduce__(self):
            args = (Storage(), offset, shape, strides, False, collections.OrderedDict())
            return torch._utils._rebuild_tensor_v2, args

    class Storage:
        pass

    class Writer(pickle.Pickler):
        def persistent_id(self, value):
            return ("storage", getattr(torch, kind), "0", "cpu", numel) if isinstance(value, Storage) else None

    file = io.BytesIO()
    Writer(file, 2).dump({"a": Tensor()})
    return file.getvalue()


def replace_pickle(source, target, data, extra=None):
    """Copy a PyTorch zip with another data.pkl, and other members if given."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            head, _, name = info.filename.partition("/")
            if name == "data.pkl":
                new.writestr(info.filename, data)
            elif extra is None or name not in extra:
                new.writestr(info.filename, old.read(info))
        for name, value in (extra or {}).items():
            new.writestr(f"{head}/{name}", value)


@pytest.mark.parametrize(
    "claims",
    [
        {"offset": 1},
        {"offset": -1},
        {"shape": (5,)},
        {"shape": (-1,)},
        {"shape": (2, 2), "strides": (1,)},
        {"shape": (10**6, 10**6), "strides": (0, 0)},
        {"shape": (4, 1), "strides": (1, 10**30)},
        {"shape": (10**30,)},
        {"strides": (2,)},
        {"strides": (-1,)},
        {"numel": 5, "shape": (5,)},
        {"numel": -1},
        {"numel": 10**15, "shape": (10**15,)},
        {"shape": "four"},
        {"kind": "DoubleStorage"},
        {"kind": "QInt8Storage"},
    ],
    ids=str,
)
def test_impossible_tensors_are_refused(claims, tmp_path, small):
    path = tmp_path / "file"
    data = torch.arange(4.0).numpy().tobytes()
    replace_pickle(small[0]["torchscript"], path, tensor_pickle(), {"data/0": data})
    assert read_checkpoint(path).tensors["a"].tolist() == [0, 1, 2, 3]
    replace_pickle(small[0]["torchscript"], path, tensor_pickle(**claims), {"data/0": data})
    with pytest.raises(CheckpointError):
        read_checkpoint(path)


def test_nesting_without_end_is_refused(tmp_path):
    doubling = [torch.ones(1)]
    for _ in range(60):
        doubling = [doubling, doubling]
    loop = []
    loop.append(loop)
    for number, content in enumerate((doubling, loop)):
        torch.save(content, tmp_path / str(number))
        with pytest.raises(CheckpointError, match=r"without end|no named tensors"):
            read_checkpoint(tmp_path / str(number))


# Broken and foreign files


@pytest.mark.parametrize("layout", WRITERS)
def test_a_truncated_file_says_so(layout, small, tmp_path):
    whole = small[0][layout].read_bytes()
    path = tmp_path / "cut"
    for length in [100, 1000, len(whole) // 2, len(whole) - 1000, len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="truncated or damaged") as caught:
            read_checkpoint(path)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize("layout", WRITERS)
def test_damage_anywhere_ends_in_our_error_or_in_tensors(layout, small, tmp_path):
    whole = small[0][layout].read_bytes()
    chance, path, refused = random.Random(layout), tmp_path / "damaged", 0
    for _ in range(60):
        damaged = bytearray(whole)
        span = len(whole) if layout == "torchscript" and chance.random() < 0.5 else min(len(whole), 20_000)
        for _ in range(chance.choice([1, 1, 8])):
            damaged[chance.randrange(9, span)] = chance.randrange(256)
        path.write_bytes(damaged)
        try:
            assert read_checkpoint(path).tensors
        except CheckpointError:
            refused += 1
    assert refused


def test_a_flipped_bit_in_the_weights_is_noticed(small, tmp_path):
    for layout in ("lightning", "torchscript"):
        whole = bytearray(small[0][layout].read_bytes())
        with zipfile.ZipFile(small[0][layout]) as archive:
            info = max(archive.infolist(), key=lambda i: i.file_size)
        whole[info.header_offset + 200 + info.file_size // 2] ^= 1
        (tmp_path / "flipped").write_bytes(whole)
        with pytest.raises(CheckpointError, match="CRC"):
            read_checkpoint(tmp_path / "flipped")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 205669692\n", "Git LFS"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "not a checkpoint"),
        (b"PK", "not a checkpoint"),
        (b"PK\x03\x04", "truncated"),
        (b"\x80", "could run code"),
        (pickle.dumps({"a": 1}), "could run code"),
        ((10).to_bytes(8, "little") + b"{         ", "truncated"),
        ((2).to_bytes(8, "little") + b"{}", "no named tensors"),
        ((2**40).to_bytes(8, "little") + b"{}", "not a checkpoint"),
    ],
)
def test_what_is_no_checkpoint_is_named(content, message, tmp_path):
    path = tmp_path / "big-lama.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_checkpoint(path)
    assert str(path) in str(caught.value)


def test_files_that_cannot_be_opened(tmp_path):
    with pytest.raises(CheckpointError, match="No such file"):
        read_checkpoint(tmp_path / "absent")
    with pytest.raises(CheckpointError, match="directory"):
        read_checkpoint(tmp_path)


def test_the_zip_around_the_published_checkpoint_says_what_to_unpack(tmp_path):
    path = tmp_path / "big-lama.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("big-lama/config.yaml", "x: 1")
        archive.writestr("big-lama/models/best.ckpt", b"x")
    with pytest.raises(CheckpointError, match=r"no data.pkl.*Unpack it and give big-lama/models/best.ckpt"):
        read_checkpoint(path)


def test_another_byte_order_is_refused(tmp_path, small):
    path, other = tmp_path / "file", {"little": b"big", "big": b"little"}[sys.byteorder]
    replace_pickle(small[0]["torchscript"], path, tensor_pickle(), {"byteorder": other, "data/0": bytes(16)})
    with pytest.raises(CheckpointError, match="byte order"):
        read_checkpoint(path)


def test_a_foreign_network_is_recognised_as_foreign(tmp_path):
    path = tmp_path / "resnet.pt"
    torch.save({"layer1.0.conv1.weight": torch.ones(4, 4, 3, 3), "model.1.weight": torch.ones(2)}, path)
    with pytest.raises(CheckpointError, match=r"another network.*layer1\.0\.conv1\.weight"):
        lama_state(read_checkpoint(path))
    assert describe(path)["network"] == "unknown"
    assert describe(path)["prefix"] is None


@pytest.mark.parametrize("prefix", ["", "generator.", "model.", "model.model.", "module.a.model.1."])
def test_any_prefix_and_other_modules_are_stripped(prefix, tmp_path):
    state, path = state_of(SMALL), tmp_path / "file"
    others = {"discriminator.model.1.weight": torch.ones(1), "zmodel.1.ffc.convl2l.weight": torch.ones(1)}
    save_file({prefix + k: v for k, v in state.items()} | others, path)
    assert_same(lama_state(read_checkpoint(path)), state)
    assert describe(path)["ignored"] == 2


def test_two_generators_are_told_apart_or_refused(tmp_path):
    path, first, second = tmp_path / "file", state_of(SMALL, 1), state_of(SMALL, 2)
    torch.save(
        {"generator_average." + k: v for k, v in second.items()} | {"generator." + k: v for k, v in first.items()},
        path,
    )
    assert_same(lama_state(read_checkpoint(path)), first)
    torch.save({"a." + k: v for k, v in first.items()} | {"b." + k: v for k, v in second.items()}, path)
    with pytest.raises(CheckpointError, match=r"2 LaMa generators, under a\., b\."):
        lama_state(read_checkpoint(path))


def test_a_partial_file_names_what_is_missing_surplus_and_misshapen(tmp_path):
    state, path = state_of(SMALL), tmp_path / "file"
    for key in [k for k in state if k.startswith("model.6.")]:
        del state[key]
    state["model.99.weight"] = torch.ones(1)
    state["model.2.bn_l.bias"] = torch.ones(3, 2)
    save_file(state, path)
    with pytest.raises(CheckpointError) as caught:
        check_keys(shapes(SMALL), lama_state(read_checkpoint(path)), path=path, what="LaMa")
    text = str(caught.value)
    assert "44 of 133 keys are missing (model.6." in text
    assert "and 39 more" in text
    assert "1 surplus keys (model.99.weight)" in text
    assert "model.2.bn_l.bias is 3x2 instead of 16" in text

    del state["model.1.ffc.convl2l.weight"]
    save_file(state, path)
    with pytest.raises(CheckpointError, match=r"only part of a LaMa.*model\.1\.ffc\.convl2l\.weight is missing"):
        lama_state(read_checkpoint(path))


def test_the_built_in_network_is_described():
    about = describe("models/weights/migan-512-places2.safetensors")
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
        "from models.checkpoint import save_safetensors\n"
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
