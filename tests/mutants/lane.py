"""A copy of the repository in which mutants are tried, one after the other, each in a process of its own.

The libraries are imported once, before the processes fork, so that a mutant costs little more than its tests.
"""

from __future__ import annotations

import compileall
import contextlib
import importlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.mutants.mutations import Mutant

LIBRARIES = ("numpy", "torch", "PIL.Image", "pydantic", "fastapi", "httpx", "redis", "celery", "hypothesis", "pytest")
SLOW = ("tests/service", "tests/browser", "tests/docker")  # real services, minutes a file: CI runs them
TIMEOUT_SECONDS = 240  # of one mutant's tests; a mutant that hangs them is noticed
MOST_FILES = 12  # of tests for one mutant


class Lane:
    """Use it in a process of its own: it changes the working directory and what is imported."""

    def __init__(self, root: Path, copy: Path):
        self._copy = copy
        files = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split("\n")
        for name in filter(None, files):
            if (root / name).is_file():
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(root / name, copy / name)
        compileall.compile_dir(str(copy), quiet=2)
        self._tests = {
            str(path.relative_to(copy)): path.read_text()
            for path in sorted((copy / "tests").rglob("test_*.py"))
            if not str(path.relative_to(copy)).startswith(SLOW)
        }
        os.chdir(copy)
        sys.path[:] = [str(copy), str(copy / "client"), *(p for p in sys.path if p not in ("", str(root)))]
        os.environ |= {
            "PYTHONPATH": f"{copy}{os.pathsep}{copy / 'client'}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
        }
        sys.dont_write_bytecode = True
        for name in LIBRARIES:
            importlib.import_module(name)

    def tests_of(self, path: str) -> list[str]:
        """The test files for a module: its own, those that import it, those of its folder; the nearest first."""
        parts = Path(path.removeprefix("client/lama_refinery_").removeprefix("client/")).with_suffix("").parts
        folder = "/".join(("tests", *parts[:-1]))
        own = f"{folder}/test_{parts[-1]}.py"
        while folder != "tests" and not any(test.startswith(f"{folder}/") for test in self._tests):
            folder = folder.rpartition("/")[0]
        module = re.escape(path.removeprefix("client/").removesuffix(".py").removesuffix("/__init__").replace("/", "."))
        package, _, name = module.rpartition(r"\.")
        imports = re.compile(rf"(from|import) {module}\b|from {package} import .*\b{name}\b")

        def rank(test: str) -> int:
            if test == own:
                return 0
            if imports.search(self._tests[test]):
                return 1
            return 2 if test.startswith(f"{folder}/") else 3

        ranked = sorted((rank(test), len(text), test) for test, text in self._tests.items())
        return [test for place, _, test in ranked if place < 3][:MOST_FILES]

    def try_mutant(self, mutant: Mutant) -> tuple[str, str, float]:
        """Run the tests on a mutant; `noticed`, `survived` or `untested`, what tells it, and the seconds."""
        tests = self.tests_of(mutant.path)
        if not tests:
            return "untested", "no test imports it", 0.0
        target = self._copy / mutant.path
        original, times = target.read_text(), target.stat()
        started = time.monotonic()
        target.write_text(mutant.code)
        try:
            code, output = self._run(tests)
        finally:
            target.write_text(original)
            os.utime(target, ns=(times.st_atime_ns, times.st_mtime_ns))  # its compiled file stays valid
        failed = re.search(r"^(FAILED|ERROR) (\S+)", output, re.MULTILINE)
        by = failed[2] if failed else "the tests do not end or cannot be collected"
        return (
            ("survived", "", time.monotonic() - started) if code == 0 else ("noticed", by, time.monotonic() - started)
        )

    def _run(self, tests: list[str]) -> tuple[int, str]:
        log = self._copy / "mutant.log"
        pid = os.fork()
        if pid == 0:
            os.setsid()
            with log.open("wb") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            import pytest

            os._exit(pytest.main(["-x", "-q", "--assert=plain", "-p", "no:cacheprovider", "-p", "no:xdist", *tests]))
        code = _wait(pid, TIMEOUT_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)  # what a test has started ends with it
        return code, log.read_text(errors="replace")


def _wait(pid: int, seconds: float) -> int:
    """The exit code of a child; that of a killed one when it takes longer."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return -signal.SIGKILL
