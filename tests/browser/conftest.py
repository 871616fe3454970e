"""What the browser tests need from elsewhere, fetched once: a Chromium, and the packages of package-lock.json."""

import os
import shutil
import subprocess

import pytest
from filelock import FileLock

from tests import support

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def _chromium():
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


@pytest.fixture(scope="session")
def chromium():
    """The path of a Chromium: $CHROMIUM, one on the PATH, or Debian's, installed where that is possible."""
    (support.ROOT / ".cache").mkdir(exist_ok=True)
    with FileLock(support.ROOT / ".cache" / "chromium.lock"):
        if _chromium() is None and os.geteuid() == 0 and shutil.which("apt-get"):
            quiet = {"check": True, "capture_output": True, "timeout": 280}
            subprocess.run(["apt-get", "update"], **quiet)
            subprocess.run(["apt-get", "install", "-y", "--no-install-recommends", "chromium"], **quiet)
    found = _chromium()
    assert found, "the browser tests need Chromium: install the package `chromium`, or set CHROMIUM to its path"
    return found


@pytest.fixture(scope="session")
def packages():
    """node, with the packages that `make` installs into tests/browser/node_modules."""
    node = shutil.which("node")
    assert node, "the browser tests need Node.js 20 or newer: install `nodejs` and `npm`"
    with FileLock(support.ROOT / ".cache" / "browser.lock"):
        command = ["make", "tests/browser/node_modules/.package-lock.json"]
        subprocess.run(command, cwd=support.ROOT, check=True, capture_output=True, timeout=200)
    return node
