"""Downloads that are refused or take detours, and those that share a disk with others."""

import hashlib
import io
import re
import subprocess
import sys
import threading
import time
import urllib.parse

import pytest
import torch

from models.errors import DownloadError
from models.weights import http_download
from models.weights.checkpoint import read_checkpoint
from models.weights.download import download
from models.weights.places import weights_path
from tests.servers.mirror import NAME, entry, fetch, left

pytestmark = pytest.mark.usefixtures("cache")


def test_wrong_bytes_are_removed_and_both_sums_told(mirror, cache):
    weights = entry(mirror)
    mirror.body = mirror.body[:-1] + b"!"
    with pytest.raises(DownloadError) as caught:
        fetch(mirror, weights)
    text = str(caught.value)
    assert weights.sha256 in text
    assert hashlib.sha256(mirror.body).hexdigest() in text
    assert str(weights.bytes) in text
    assert "--url" in text
    assert len(mirror.seen) == 1  # fetching the same again would not help
    assert left(cache) == []


def test_a_wrong_size_is_refused_before_anything_is_fetched(mirror, cache):
    seen = []
    with pytest.raises(DownloadError, match=rf"expected 5 bytes, the server sends {len(mirror.body)}"):
        fetch(mirror, entry(mirror, bytes=5), on_progress=lambda *progress: seen.append(progress))
    assert seen == left(cache) == []


def test_a_login_page_in_place_of_the_file_spares_what_has_arrived(mirror, cache):
    page = ("answer", 200, b"<html>Sign in</html>", {"Content-Type": "text/html"})
    mirror.plan = [("serve", 70_000), page]
    with pytest.raises(DownloadError, match="web page"):
        fetch(mirror)
    assert (cache / f"{NAME}.part").stat().st_size == 70_000


def test_a_body_without_end_is_stopped(mirror, cache):
    mirror.plan = ["endless"]
    with pytest.raises(DownloadError, match=f"expected {len(mirror.body)} bytes"):
        fetch(mirror)
    assert left(cache) == []


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_refusal_is_final(mirror, status):
    mirror.plan = [("answer", status, b"")]
    with pytest.raises(DownloadError, match=rf"answered {status} .*--url"):
        fetch(mirror)
    assert len(mirror.seen) == 1


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_passing_trouble_is_waited_out(mirror, status):
    mirror.plan = [("answer", status, b"", {"Retry-After": "0"})] * 2
    fetch(mirror)
    assert len(mirror.seen) == 3


def test_retry_after_is_heeded(mirror, caplog):
    mirror.plan = [("answer", 503, b"", {"Retry-After": "1"}), ("answer", 503, b"", {"Retry-After": "Thu"})]
    fetch(mirror)
    assert re.findall(r"again in ([\d.]+) s", caplog.text) == ["1.0", "0.0"]
    assert [http_download.pause_before(n, 1.0, 0.0) for n in (1, 2, 3, 9)] == [1, 2, 4, 60]
    assert http_download.pause_before(1, 1.0, 9999.0) == 60


def test_redirects_are_followed_and_keep_the_range(mirror):
    mirror.plan = [("redirect", "/other"), ("serve", 70_000), ("redirect", "/other"), "serve"]
    fetch(mirror)
    assert [path for path, _ in mirror.seen] == ["/weights/tiny.pt", "/other"] * 2
    assert mirror.ranges[2:] == ["bytes=70000-"] * 2


def test_a_redirect_loop_ends(mirror):
    mirror.plan = [("redirect", "/weights/tiny.pt")] * 100
    with pytest.raises(DownloadError, match="302"):
        fetch(mirror)


def test_nobody_listening(mirror):
    weights = entry(mirror, url="http://127.0.0.1:1/tiny.pt")
    with pytest.raises(DownloadError, match="no connection"):
        fetch(mirror, weights, attempts=2)


def test_a_proxy_from_the_environment_is_used(mirror, monkeypatch):
    host = urllib.parse.urlsplit(mirror.url).netloc
    monkeypatch.setenv("http_proxy", f"http://{host}")
    path = fetch(mirror, entry(mirror, url="http://weights.invalid/tiny.pt"))
    assert [seen for seen, _ in mirror.seen] == ["http://weights.invalid/tiny.pt"]
    assert read_checkpoint(path).metadata["source"] == "http://weights.invalid/tiny.pt"


def test_a_mirror_must_serve_the_same_bytes_unless_others_are_accepted(mirror, published, cache):
    other = io.BytesIO()
    torch.save({"state_dict": {f"generator.{k}": v for k, v in published[1].items()}}, other)
    weights, mirror.body = entry(mirror, url="http://127.0.0.1:1/"), other.getvalue()
    url = mirror.url + "?token=secret"
    with pytest.raises(DownloadError) as caught:
        fetch(mirror, weights, url=url)
    assert "secret" not in str(caught.value)
    path = fetch(mirror, weights, url=url, sha256=hashlib.sha256(mirror.body).hexdigest().upper())
    metadata = read_checkpoint(path).metadata
    assert metadata["source"] == mirror.url
    assert metadata["licence"] == "unknown"


def test_a_file_on_this_machine(mirror, cache, tmp_path):
    source = tmp_path / "a b.pt"
    source.write_bytes(mirror.body)
    assert fetch(mirror, url=source.as_uri()).exists()
    assert mirror.seen == []
    assert source.exists()
    with pytest.raises(DownloadError, match="cannot be read"):
        fetch(mirror, url=(tmp_path / "absent").as_uri(), force=True)
    with pytest.raises(DownloadError, match=re.escape(f"give {source.as_uri()}")):
        fetch(mirror, url=str(source), force=True)


@pytest.mark.parametrize(
    "url", ["ftp://host/x", "big-lama.pt", "http://", "http://host:port/", "http://[::1/", "data:,x"]
)
def test_addresses_we_do_not_take(mirror, url, cache):
    with pytest.raises(DownloadError, match="is not an address"):
        fetch(mirror, url=url)
    assert not cache.exists()


def test_names_and_sums_we_do_not_know(mirror):
    with pytest.raises(DownloadError, match=r"'\.\./x' can be downloaded; choose big-lama"):
        download("../x")
    with pytest.raises(DownloadError, match="64 hexadecimal digits"):
        fetch(mirror, sha256="abc")


def test_the_right_bytes_of_something_useless_are_kept_and_named(mirror, cache):
    mirror.body = b"<html>" + bytes(1000)
    with pytest.raises(DownloadError, match=rf"no use here: .*{NAME}.part is a web page"):
        fetch(mirror)
    assert f"{NAME}.part" in left(cache)


# The disk and other processes


CHILD = """
import os, resource, sys
from models.weights.download import PublishedWeights, download
url, size, sha256, limit, drop = sys.argv[1:]
if int(limit): resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
if int(drop) and os.getuid() == 0: os.setuid(65534)
try:
    print(download("tiny-lama", known={"tiny-lama": PublishedWeights("tiny-lama", url, int(size), sha256, "x")}))
except Exception as error:
    print(type(error).__name__, error)
"""


def child(mirror, limit=0, drop=0):
    weights = entry(mirror)
    values = [weights.url, weights.bytes, weights.sha256, limit, drop]
    command = [sys.executable, "-c", CHILD, *map(str, values)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_processes_fetch_once(mirror, cache):
    children = [child(mirror) for _ in range(2)]
    for process in children:
        out, err = process.communicate(timeout=60)
        assert out.strip() == str(weights_path(NAME)), err
    assert len(mirror.seen) == 1
    assert left(cache) == [f"{NAME}.safetensors"]


def test_a_second_download_waits_for_the_first_and_finds_its_file(mirror, caplog):
    first_is_in, go_on = threading.Event(), threading.Event()

    def hold(done, total):
        first_is_in.set()
        assert go_on.wait(30)

    first = threading.Thread(target=fetch, args=(mirror,), kwargs={"on_progress": hold})
    first.start()
    assert first_is_in.wait(30)
    second = threading.Thread(target=fetch, args=(mirror,))
    second.start()
    while "another process is fetching" not in caplog.text:
        assert second.is_alive()
        time.sleep(0.01)
    go_on.set()
    first.join()
    second.join()
    assert len(mirror.seen) == 1


@pytest.mark.parametrize("while_converting", [False, True])
def test_a_full_disk_is_called_a_full_disk(mirror, published, cache, while_converting):
    """A limit on file sizes is what stands in for a full disk."""
    if while_converting:
        file = io.BytesIO()
        torch.save({f"generator.{k}": v.half() for k, v in published[1].items()}, file)
        mirror.body = file.getvalue()  # fits, but not as float32
    out, err = child(mirror, limit=len(mirror.body) + 10_000 if while_converting else 100_000).communicate()
    assert out.startswith(f"DownloadError the disk of {cache} is full"), err
    assert "REFINERY_WEIGHTS_DIR" in out
    assert left(cache) == [f"{NAME}.part"]  # to go on with when there is room


def test_a_directory_that_may_not_be_written(mirror, cache):
    cache.mkdir()
    cache.chmod(0o555)
    out, err = child(mirror, drop=1).communicate()
    assert out.startswith(f"DownloadError {cache} may not be written to"), err
    assert mirror.seen == []


def test_too_little_room_is_told_before_fetching(mirror):
    with pytest.raises(DownloadError, match=r"MB free, and 2000000000 MB are needed.*REFINERY_WEIGHTS_DIR"):
        fetch(mirror, entry(mirror, bytes=10**15))
    assert mirror.seen == []


def test_a_cache_directory_that_is_none(mirror, cache):
    cache.write_bytes(b"")
    with pytest.raises(DownloadError, match="cannot be used"):
        fetch(mirror)
