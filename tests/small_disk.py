"""A small disk to fill: mounted here, or where that is not allowed, in namespaces in which another process may."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from tests import support

APART = ["unshare", "--user", "--map-root-user", "--mount"]


def run(play, directory, size, *arguments):
    """`play(directory, *arguments)`, a function of a test's module, on a disk of that size; arguments are strings.

    It is called in this process, or imported and called in another one. Skips where the system allows neither.
    """
    if mount(directory, size):
        try:
            play(directory, *arguments)
        finally:
            subprocess.run(["umount", "-l", directory], check=True)
        return
    try:
        allowed = not subprocess.run([*APART, *command(directory, size)], capture_output=True).returncode
    except FileNotFoundError:
        allowed = False
    if not allowed:
        pytest.skip("mounting a small disk takes CAP_SYS_ADMIN, or unshare and user namespaces")
    told = [play.__module__, play.__name__, str(directory), size, *arguments]
    done = subprocess.run(
        [*APART, sys.executable, "-m", __name__, *told], capture_output=True, text=True, cwd=support.ROOT
    )
    assert done.returncode == 0, done.stderr


def command(directory, size):
    return ["mount", "-t", "tmpfs", "-o", f"size={size}", "refinery", str(directory)]


def mount(directory, size):
    """Whether this process may."""
    return subprocess.run(command(directory, size), capture_output=True).returncode == 0


if __name__ == "__main__":
    module, function, directory, size, *arguments = sys.argv[1:]
    assert mount(directory, size)
    getattr(importlib.import_module(module), function)(Path(directory), *arguments)
