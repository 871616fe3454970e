"""Checkpoints that are hostile, broken or none at all."""

import collections
import copyreg
import io
import os
import pathlib
import pickle
import random
import subprocess
import sys
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from models.errors import CheckpointError
from models.weights.checkpoint import find_weights, read_checkpoint
from tests.checkpoints import SMALL, WRITERS, assert_same, state_of

pytestmark = pytest.mark.usefixtures("one_thread")


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
        assert_same(find_weights(read_checkpoint(paths[layout])).tensors, state)


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


PEAK = (
    "import resource, sys\n"
    "from models.errors import CheckpointError\n"
    "from models.networks.registry import load_network\n"
    "resource.setrlimit(resource.RLIMIT_AS, (2**33, 2**33))\n"
    "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
    "before = peak()\n"
    "try: load_network(sys.argv[1], device='cpu')\n"
    "except CheckpointError: print((peak() - before) * (1 if sys.platform == 'darwin' else 1024))"
)
GIB = 2**30


def hostile_pickles(numel=GIB):
    large = b"}(" + b"".join(b"J" + i.to_bytes(4, "little") + b"N" for i in range(2**17)) + b"u"
    return {
        "a bytearray that is not there": b"\x80\x05\x96" + (8 * GIB).to_bytes(8, "little") + b".",
        "a memo with a far index": b"\x80\x02]r" + (2**32 - 1).to_bytes(4, "little") + b".",
        "copies of a dict": b"\x80\x02ccollections\nOrderedDict\nq\x00"
        + large
        + b"q\x01"
        + b"h\x00h\x01\x85R" * 2**9
        + b".",
        "a storage that is not there": tensor_pickle(numel=numel, shape=(numel,)),
        "a list within itself": b"\x80\x02]q\x00(" + b"h\x00" * 2**20 + b"e.",
    }


@pytest.mark.parametrize("kind", hostile_pickles())
@pytest.mark.parametrize("layout", ["zip", "legacy"])
def test_a_small_file_takes_little_memory_whatever_it_claims(kind, layout, tmp_path, small):
    path, data = tmp_path / "file", hostile_pickles()[kind]
    if layout == "zip":
        replace_pickle(small[0]["torchscript"], path, data, {"data/0": bytes(16)})
    else:
        head = small[0]["torch"].read_bytes()[:15] + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2)
        path.write_bytes(head + data + pickle.dumps(["0"], 2) + GIB.to_bytes(8, "little") + bytes(16))
    done = subprocess.run([sys.executable, "-c", PEAK, path], capture_output=True, text=True, check=True)
    assert int(done.stdout) < GIB // 2


def test_parts_of_an_archive_that_share_their_bytes_are_counted_each(tmp_path, small):
    path = tmp_path / "file"
    storages = {f"data/{i}": b"" for i in range(100)}
    replace_pickle(small[0]["torchscript"], path, tensor_pickle(numel=2**20, shape=(2**20,)), storages)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        head = archive.namelist()[0].partition("/")[0]
        archive.writestr(f"{head}/data/x", bytes(2**22))  # a few kilobytes in the file
    with zipfile.ZipFile(path, "a") as archive:
        whole = {info.filename: info for info in archive.infolist()}
        for key in ("header_offset", "compress_size", "file_size", "CRC", "compress_type"):
            setattr(whole[f"{head}/data/0"], key, getattr(whole[f"{head}/data/x"], key))
        archive._didModify = True
    with pytest.raises(CheckpointError, match="larger than the file"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"model.1.ffc.convl2l.weight": torch.ones(10**6, 1)},
        {"model.999999999.ffc.convl2l.weight": torch.ones(1)},
        {"model.4.ffc.convl2g.weight": torch.ones(10**5, 1)},
        {"model.4.ffc.convl2g.weight": torch.ones(64, 1)},
        {"model.4.ffc.convl2g.weight": torch.tensor(1.0)},
        {f"model.{i}.conv1.ffc.convl2l.weight": torch.ones(1) for i in range(10**4)},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_shapes_of_an_absurd_network_are_refused(changes, tmp_path):
    path = tmp_path / "file"
    save_file(state_of(SMALL) | changes, path)
    done = subprocess.run([sys.executable, "-c", PEAK, path], capture_output=True, text=True, check=True)
    assert int(done.stdout) < GIB // 2


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
