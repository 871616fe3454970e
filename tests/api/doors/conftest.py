"""One real service with every door open and one API key, for the clients of all doors."""

import os
import shutil
import subprocess
import sys

import pytest
from filelock import FileLock

from jobs.store.owners.api_keys import Limits
from tests import support
from tests.conftest import EmbeddedProcess

NODE = support.ROOT / "tests" / "api" / "doors" / "node"
NO_LIMITS = [f"--{name.replace('_', '-')}=none" for name in Limits.model_fields if name != "max_priority"]


class Doors:
    """The address and the key of the service."""

    def __init__(self, running, key):
        self.url, self.key = running.url, key
        self.headers = {"Authorization": f"Bearer {key}"}


@pytest.fixture(scope="session")
def doors(tmp_path_factory, judge):
    data = tmp_path_factory.mktemp("doors") / "data"
    made = subprocess.run(
        [sys.executable, "-m", "api", "keys", "create", "tester", *NO_LIMITS, "--data", data],
        cwd=support.ROOT,
        env=support.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    receivers = {"url_schemes": "http,https", "url_ports": "1-65535", "private_networks_allowed": "127.0.0.0/8"}
    limits = {"max_upload_bytes": 4_000_000}
    running = EmbeddedProcess(data, judge, doors="openai,replicate,cog,iopaint", **receivers, **limits)
    try:
        running.wait_ready()
        yield Doors(running, made.stdout.strip())
    finally:
        running.end()


@pytest.fixture(scope="session")
def node():
    """Runs a script of the folder `node` with the packages of its package-lock.json; what it prints."""
    program = shutil.which("node")
    assert program, "the clients for Node.js need Node.js 20 or newer: install `nodejs` and `npm`"
    (support.ROOT / ".cache").mkdir(exist_ok=True)
    with FileLock(support.ROOT / ".cache" / "doors.lock"):
        command = ["make", "tests/api/doors/node/node_modules/.package-lock.json"]
        subprocess.run(command, cwd=support.ROOT, check=True, capture_output=True, timeout=200)

    def run(script, **variables):
        done = subprocess.run(
            [program, NODE / script],
            env=os.environ | variables,
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
