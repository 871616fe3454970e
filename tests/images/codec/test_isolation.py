import json
import os
import platform
import subprocess
import sys

import pytest

from images.codec.pool import CodecPool

linux = pytest.mark.skipif(
    not sys.platform.startswith("linux") or platform.machine() not in ("x86_64", "aarch64"),
    reason="system calls are filtered on Linux alone",
)

PROBE = """
import io, json, os, resource, signal, socket, sys
from images.codec import isolation

def refused(action):
    try:
        action()
    except OSError as error:
        return type(error).__name__
    return "allowed"

pipe, other = os.pipe()
missing = isolation.isolate()
parent = os.getppid()
attempts = {
    "read a file": lambda: open("/etc/hostname"),
    "write a file": lambda: open("/tmp/refinery-probe", "w"),
    "list a folder": lambda: os.listdir("/"),
    "delete a file": lambda: os.unlink("/tmp/refinery-probe"),
    "connect": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM),
    "a local socket": lambda: socket.socketpair(),
    "fork": lambda: os.fork(),
    "run a program": lambda: os.execv("/bin/true", ["true"]),
    "signal another process": lambda: os.kill(parent, 0),
    "limit another process": lambda: resource.prlimit(parent, resource.RLIMIT_CPU, (1, 1)),
    "memory without a bound": lambda: os.memfd_create("probe"),
    "read what is open": lambda: os.fstat(pipe),
    "limit itself": lambda: resource.setrlimit(resource.RLIMIT_CPU, (100, resource.RLIM_INFINITY)),
}
print(json.dumps({"missing": missing, **{name: refused(action) for name, action in attempts.items()}}))
"""


@linux
def test_a_codec_process_can_only_compute():
    told = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True).stdout
    found = json.loads(told)
    assert found.pop("missing") == []
    allowed = {name for name, outcome in found.items() if outcome == "allowed"}
    assert allowed == {"read what is open", "limit itself"}
    assert set(found.values()) == {"allowed", "PermissionError"}


@linux
def test_a_pool_says_that_nothing_is_missing():
    with CodecPool(1) as pool:
        assert pool.missing_isolation() == []


@linux
def test_codec_processes_know_no_secrets_and_go_first(monkeypatch):
    monkeypatch.setenv("REFINERY_REDIS_URL", "redis://:secret@host/0")
    with CodecPool(1) as pool:
        pool.missing_isolation()
        for pid in pool.pids:
            with open(f"/proc/{pid}/environ") as file:
                assert "secret" not in file.read()
        with open(f"/proc/{pool.pids[-1]}/oom_score_adj") as file:
            assert file.read().strip() == "1000"
        assert len(os.listdir(f"/proc/{pool.pids[-1]}/fd")) < 8
