import base64
import io
import subprocess
import sys
from urllib.parse import quote_from_bytes, unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import FetchFailed, UploadTooLarge
from jobs.http import data_url
from jobs.http.data_url import write_data

MEGABYTE = 1 << 20


def data_of(url, max_bytes=10**9):
    into = io.BytesIO()
    write_data(url, max_bytes, into)
    return into.getvalue()


@given(st.text(st.sampled_from("%%%%019afAFgG,; \u00e4\u20ac"), max_size=60), st.integers(3, 9))
def test_escapes_are_read_as_python_reads_them(text, piece):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data_url, "PIECE_CHARACTERS", piece)
        assert data_of(f"data:,{text}") == unquote_to_bytes(text)


@given(st.binary(max_size=200))
def test_what_is_quoted_comes_back(data):
    assert data_of("data:image/png," + quote_from_bytes(data)) == data
    assert data_of("data:," + "".join(f"%{byte:02x}" for byte in data)) == data


def test_lines_of_base64_may_be_wrapped():
    assert data_of("data:image/png;base64,iVBO\r\n  Rw==\n") == b"\x89PNG"


def test_half_a_surrogate_pair_is_no_base64():
    with pytest.raises(FetchFailed, match="base64"):
        data_of("data:;base64,\ud800AAA")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux says how much memory a process has had")
def test_thirty_megabytes_of_escapes_take_little_memory():
    code = (
        "import io; from jobs.http.data_url import write_data\n"
        "def resident(name): return int(open('/proc/self/status').read().split(name + ':')[1].split()[0])\n"
        "url, into = 'data:,' + '%41' * 10_000_000, io.BytesIO(); before = resident('VmRSS')\n"
        "write_data(url, 10_000_000, into); print(resident('VmHWM') - before, into.tell())"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    kilobytes, written = map(int, told.split())
    assert written == 10_000_000
    assert kilobytes * 1024 < 100 * MEGABYTE


@pytest.mark.parametrize(
    ("url", "data"),
    [
        ("data:image/png;base64," + base64.b64encode(b"\x89PNG").decode(), b"\x89PNG"),
        ("DATA:;base64,iVBORw", b"\x89PNG"),
        ("data:image/png;base64,iVBORw%3D%3D", b"\x89PNG"),
        ("data:,a%20b", b"a b"),
    ],
)
def test_data_urls(url, data):
    assert data_of(url) == data


def test_bad_and_large_data_urls():
    with pytest.raises(FetchFailed, match="comma"):
        data_of("data:image/png;base64")
    with pytest.raises(FetchFailed, match="base64"):
        data_of("data:;base64,%%%%")
    with pytest.raises(UploadTooLarge):
        data_of("data:," + "x" * 1001, max_bytes=1000)
    with pytest.raises(UploadTooLarge):
        data_of("data:," + "x" * 10_000, max_bytes=1000)
