"""Downloads that succeed, however often they are cut: against a real HTTP server on this machine."""

import hashlib
import io
import os

import pytest
import torch

from models.errors import DownloadError
from models.weights.checkpoint import read_checkpoint
from models.weights.download import KNOWN
from models.weights.places import cache_dir, weights_path
from tests.servers.mirror import NAME, entry, fetch, left

pytestmark = pytest.mark.usefixtures("cache")


def test_the_published_checkpoint_is_the_one_we_pin():
    pinned = KNOWN["big-lama"]
    assert pinned.url == "https://github.com/Sanster/models/releases/download/add_big_lama/big-lama.pt"
    assert pinned.bytes == 205669692
    assert pinned.sha256 == "344c77bbcb158f17dd143070d1e789f38a66c04202311ae3a258ef66667a9ea9"
    with pytest.raises(TypeError):
        KNOWN["other"] = pinned


def test_where_weights_are_kept(monkeypatch, tmp_path):
    assert cache_dir() == tmp_path / "cache"
    assert weights_path() == tmp_path / "cache" / "big-lama.safetensors"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("REFINERY_WEIGHTS_DIR", "~/w")
    assert cache_dir() == tmp_path / "w"
    monkeypatch.setenv("REFINERY_WEIGHTS_DIR", "")
    assert cache_dir().name == "lama-refinery"
    assert not cache_dir().exists() or cache_dir() != tmp_path  # asking creates nothing
    assert os.listdir(tmp_path) == []


def test_a_download_is_converted_once_and_the_original_removed(mirror, published, cache):
    seen = []
    path = fetch(mirror, on_progress=lambda done, total: seen.append((done, total)))
    assert path == weights_path(NAME)
    assert left(cache) == [f"{NAME}.safetensors"]
    found = read_checkpoint(path)
    assert found.layout == "safetensors"
    assert found.tensors.keys() == published[1].keys()
    for key, value in published[1].items():
        assert found.tensors[key].dtype == torch.float32
        assert torch.equal(found.tensors[key], value)
    assert found.metadata == {
        "network": NAME,
        "source": mirror.url,
        "source_sha256": hashlib.sha256(mirror.body).hexdigest(),
        "licence": "Apache-2.0",
    }
    assert seen[0] == (0, len(mirror.body))
    assert seen[-1] == (len(mirror.body), len(mirror.body))
    assert seen == sorted(seen)

    assert fetch(mirror) == path
    assert len(mirror.seen) == 1  # it was there
    fetch(mirror, force=True)
    assert len(mirror.seen) == 2


def test_half_precision_becomes_float32(published, mirror):
    file = io.BytesIO()
    torch.save({f"generator.{k}": v.half() for k, v in published[1].items()}, file)
    mirror.body = file.getvalue()
    assert {v.dtype for v in read_checkpoint(fetch(mirror)).tensors.values()} == {torch.float32}


def test_a_cut_connection_is_continued(mirror, cache):
    mirror.plan = [("serve", 70_000), ("serve", 70_000), "hang_up", "serve"]
    fetch(mirror)
    assert mirror.ranges == [None, "bytes=70000-", "bytes=140000-", "bytes=140000-"]
    assert left(cache) == [f"{NAME}.safetensors"]


def test_a_cut_chunked_body_is_continued(mirror):
    mirror.etag = None
    mirror.plan = [("chunked", 70_000), "serve"]
    fetch(mirror)
    assert len(mirror.seen) == 2


def test_a_silent_server_is_given_up_and_continued(mirror):
    mirror.plan = [("fall_silent", 3), "serve"]
    fetch(mirror, timeout_seconds=0.2)
    assert mirror.ranges[0] is None
    assert int(mirror.ranges[1].removeprefix("bytes=").rstrip("-")) > 0


def test_any_progress_earns_new_attempts_and_none_ends_them(mirror, cache):
    mirror.plan = [("serve", 20_000)] * 8
    fetch(mirror, attempts=2)  # each of the eight brought something

    mirror.seen.clear()
    mirror.plan = [("serve", 20_000)] + ["hang_up"] * 9
    with pytest.raises(DownloadError, match=r"after 3 attempts in a row.*continue.*HTTPS_PROXY.*file:///"):
        fetch(mirror, attempts=3, force=True)
    assert len(mirror.seen) == 4 - 1
    assert (cache / f"{NAME}.part").stat().st_size == 20_000  # kept for the next call
    mirror.plan.clear()
    fetch(mirror, force=True)
    assert mirror.ranges[-1] == "bytes=20000-"


def test_a_server_that_always_starts_over_cannot_hold_us_forever(mirror):
    mirror.plan = [("serve", 20_000, False)] * 50
    with pytest.raises(DownloadError, match="cut after 20000 of"):
        fetch(mirror, attempts=3)
    assert len(mirror.seen) == 3


def test_an_interrupted_call_is_continued_by_the_next(mirror, cache):
    class Stop(BaseException):
        """Ctrl-C, say."""

    def stop(done, total):
        if done > 100_000:
            raise Stop

    with pytest.raises(Stop):
        fetch(mirror, on_progress=stop)
    have = (cache / f"{NAME}.part").stat().st_size
    assert 100_000 < have < len(mirror.body)
    fetch(mirror)
    assert mirror.ranges == [None, f"bytes={have}-"]


def test_a_server_without_ranges_sends_all_of_it_again(mirror):
    mirror.plan = [("serve", 70_000), ("serve", None, False)]
    fetch(mirror)
    assert mirror.ranges[1] == "bytes=70000-"


def test_a_wrong_splice_is_noticed_and_fetched_afresh(mirror):
    good, mirror.body, mirror.etag = mirror.body, bytes(len(mirror.body)), None
    weights = entry(mirror, sha256=hashlib.sha256(good).hexdigest())

    def change(done, total):
        if done >= 70_000:
            mirror.body = good

    mirror.plan = [("serve", 70_000)]
    fetch(mirror, weights, on_progress=change)
    assert mirror.ranges == [None, "bytes=70000-", None]


def test_a_partial_answer_that_starts_elsewhere_is_not_used(mirror):
    mirror.plan = [("serve", 70_000), ("serve", None, True, True, 8), "serve"]
    fetch(mirror)
    assert mirror.ranges == [None, "bytes=70000-", None]


def test_a_part_of_another_file_is_noticed_and_replaced(mirror, cache):
    cache.mkdir()
    (cache / f"{NAME}.part").write_bytes(b"x" * 70_000)
    path = fetch(mirror)
    assert mirror.ranges == ["bytes=70000-", None]
    assert read_checkpoint(path).metadata["source_sha256"] == hashlib.sha256(mirror.body).hexdigest()


def test_a_complete_part_is_not_fetched_again(mirror, cache):
    def stop(done, total):
        if done == total:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fetch(mirror, on_progress=stop)
    assert (cache / f"{NAME}.part").stat().st_size == len(mirror.body)
    fetch(mirror)
    assert len(mirror.seen) == 1


def test_a_part_longer_than_the_file_starts_over(mirror, cache):
    weights = entry(mirror, bytes=None)
    mirror.plan = [("serve", 70_000), "hang_up"]
    with pytest.raises(DownloadError):
        fetch(mirror, weights, attempts=1)
    with (cache / f"{NAME}.part").open("ab") as file:
        file.write(bytes(len(mirror.body)))
    mirror.plan.clear()
    fetch(mirror, weights)
    assert mirror.ranges[-1] is None
