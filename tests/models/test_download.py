"""Downloads against a real HTTP server on this machine that fails in the ways servers and networks do."""

import hashlib
import http.server
import io
import json
import os
import re
import subprocess
import sys
import threading
import time
import urllib.parse
import warnings

import pytest
import torch

from models import transfer
from models.checkpoint import read_checkpoint
from models.download import KNOWN, Weights, cache_dir, download, weights_path
from models.errors import DownloadError
from models.lama import Lama, LamaConfig

NAME = "tiny-lama"


class Mirror(http.server.ThreadingHTTPServer):
    """Serves `body` at every path. `plan` holds one behaviour per request; then it behaves well."""

    daemon_threads = True

    def __init__(self, body):
        super().__init__(("127.0.0.1", 0), Handler)
        self.body, self.etag, self.modified, self.plan, self.seen = body, '"v1"', None, [], []
        self.url = f"http://127.0.0.1:{self.server_port}/weights/tiny.pt"

    def handle_error(self, request, client_address):
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # a client that hangs up is part of the plan

    @property
    def ranges(self):
        return [headers.get("Range") for _, headers in self.seen]


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        mirror = self.server
        mirror.seen.append((self.path, dict(self.headers)))
        step = mirror.plan.pop(0) if mirror.plan else "serve"
        how, *arguments = step if isinstance(step, tuple) else (step,)
        getattr(self, how)(*arguments)

    def serve(self, stop=None, ranges=True, if_range=True, shift=0):
        """The file, or the part asked for; the connection is cut after `stop` bytes."""
        mirror, start = self.server, 0
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        condition = self.headers.get("If-Range")
        if asked and ranges and (not if_range or condition in (None, mirror.etag, mirror.modified)):
            start = int(asked[1])
            if start >= len(mirror.body):
                self.answer(416, b"", {"Content-Range": f"bytes */{len(mirror.body)}"})
                return
        headers = {"ETag": mirror.etag, "Last-Modified": mirror.modified}
        if start:
            last = len(mirror.body) - 1
            headers["Content-Range"] = f"bytes {start + shift}-{last}/{last + 1}"
        self.answer(206 if start else 200, mirror.body[start + shift :], headers, stop)

    def answer(self, status, body, headers=None, stop=None):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[:stop])

    def chunked(self, stop):
        """A body of unannounced length, cut before its end."""
        self.protocol_version = "HTTP/1.1"
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b"%x\r\n" % len(self.server.body) + self.server.body[:stop])

    def endless(self):
        """A body of unannounced length that is longer than it should be."""
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.server.body + b"and more")

    def hang_up(self):
        """Close without a word."""

    def fall_silent(self, seconds):
        """Send half, then nothing."""
        self.serve(len(self.server.body) // 2)
        self.wfile.flush()
        time.sleep(seconds)

    def redirect(self, where):
        self.answer(302, b"", {"Location": where})


def tiny_torchscript():
    """A TorchScript archive of a LaMa under the published prefix, and its generator's state."""
    generator = Lama(LamaConfig(8, 3, 2, 48)).eval()
    module = torch.nn.Module()
    module.generator = generator

    class Predictor(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = module

        def forward(self, image, mask):
            return self.model.generator.rear(self.model.generator.front(image, mask))

    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated; the published file is one all the same
        inputs = torch.zeros(1, 3, 64, 64), torch.zeros(1, 1, 64, 64)
        torch.jit.save(torch.jit.trace(Predictor(), inputs, check_trace=False), file)
    return file.getvalue(), {k: v for k, v in generator.state_dict().items() if "num_batches" not in k}


@pytest.fixture(scope="module")
def published():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield tiny_torchscript()
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("REFINERY_WEIGHTS_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def mirror(published):
    server = Mirror(published[0])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def entry(mirror, **changes):
    values = {
        "name": NAME,
        "url": mirror.url,
        "bytes": len(mirror.body),
        "sha256": hashlib.sha256(mirror.body).hexdigest(),
        "licence": "Apache-2.0",
    }
    return Weights(**(values | changes))


def fetch(mirror, weights=None, **options):
    weights = weights or entry(mirror)
    return download(NAME, known={NAME: weights}, **({"pause_seconds": 0.01, "timeout_seconds": 5} | options))


def left(cache):
    """What is in the cache directory, but for the lock."""
    return sorted(name for name in os.listdir(cache) if not name.endswith(".lock"))


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
    assert mirror.seen[1][1]["If-Range"] == '"v1"'
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


@pytest.mark.parametrize("honest", [True, False])
def test_a_file_that_changed_meanwhile_is_not_spliced(mirror, honest):
    """An honest server sees by If-Range that the part is old; the other continues it regardless."""
    good, mirror.body = mirror.body, bytes(len(mirror.body))
    weights = entry(mirror, sha256=hashlib.sha256(good).hexdigest())

    def change(done, total):
        if done >= 70_000:
            mirror.body, mirror.etag = good, '"v2"'

    mirror.plan = [("serve", 70_000), ("serve", None, True, honest), "serve"]
    fetch(mirror, weights, on_progress=change)
    assert len(mirror.seen) == (2 if honest else 3)


def test_the_date_stands_in_for_a_missing_or_weak_etag(mirror):
    mirror.modified = "Sat, 01 Jan 2022 00:00:00 GMT"
    for etag in (None, 'W/"v1"'):
        mirror.etag, mirror.plan = etag, [("serve", 70_000)]
        fetch(mirror, force=True)
        assert mirror.seen[-1][1]["If-Range"] == mirror.modified


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


def test_a_part_from_another_source_is_not_continued(mirror, cache):
    mirror.plan = ["hang_up"]
    cache.mkdir()
    (cache / f"{NAME}.part").write_bytes(b"x" * 70_000)
    for note in ("", "[]", "{", json.dumps({"url": "http://elsewhere/", "sha256": "0", "validator": '"v1"'})):
        (cache / f"{NAME}.part.json").write_text(note)
        fetch(mirror, force=True)
    assert set(mirror.ranges) == {None}


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


# What is refused


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
    assert [transfer.pause_before(n, 1.0, 0.0) for n in (1, 2, 3, 9)] == [1, 2, 4, 60]
    assert transfer.pause_before(1, 1.0, 9999.0) == 60


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
from models.download import Weights, download
url, size, sha256, limit, drop = sys.argv[1:]
if int(limit): resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
if int(drop) and os.getuid() == 0: os.setuid(65534)
try:
    print(download("tiny-lama", known={"tiny-lama": Weights("tiny-lama", url, int(size), sha256, "x")}))
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
    assert left(cache) == [f"{NAME}.part", f"{NAME}.part.json"]  # to go on with when there is room


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
