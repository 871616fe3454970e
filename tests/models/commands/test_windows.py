"""Filling a picture on this machine needs nothing that Windows lacks."""

import subprocess
import sys

from tests import support

# Libraries of others are imported first: they know Windows, and ask which system they are on.
WITHOUT_POSIX = """
import ctypes, os, signal, sys
import asyncio, multiprocessing, numpy, PIL.Image, platformdirs, rich.console, torch
from pathlib import Path
for name in ("fcntl", "resource", "pwd", "grp", "termios", "pty", "syslog"):
    sys.modules[name] = None
for module, names in {
    os: "sched_getaffinity memfd_create fork getuid geteuid setsid killpg sysconf register_at_fork nice fchmod",
    signal: "SIGKILL SIGHUP SIGUSR1 SIGUSR2 SIGALRM",
}.items():
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)
load = ctypes.CDLL.__init__
def named_only(self, name, *rest, **options):
    if name is None:
        raise TypeError("a library needs a name")
    load(self, name, *rest, **options)
ctypes.CDLL.__init__ = named_only
read = Path.read_text
def without_proc(self, *rest, **options):
    if str(self).startswith("/proc"):
        raise FileNotFoundError(self)
    return read(self, *rest, **options)
Path.read_text = without_proc
from lama_refinery_client.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def test_a_picture_is_filled_without_what_windows_lacks(tmp_path):
    (tmp_path / "photo.png").write_bytes(support.as_file(support.pixels()))
    (tmp_path / "mask.png").write_bytes(support.as_file(support.hole()))
    command = [
        "fill",
        "photo.png",
        "--masks",
        "mask.png",
        "-o",
        "filled.png",
        "--preset",
        "single-pass",
        "--device",
        "cpu",
    ]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_POSIX, *command],
        cwd=tmp_path,
        env=support.environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert support.opened((tmp_path / "filled.png").read_bytes()).shape == (80, 96, 3)
