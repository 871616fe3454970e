"""Runs a command that must not outlive the process that started it. Standard library only.

`python -I -S die_with_parent.py PARENT_PID SIGNAL COMMAND...`, with a pipe from the parent as standard input.

Linux: the kernel sends SIGNAL to the command when the parent ends, for whatever reason; this process becomes the
command. Elsewhere: this process stays, and ends the command when the pipe from the parent closes.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

PR_SET_PDEATHSIG = 1  # of Linux's prctl
PIPE_ONLY = "REFINERY_TEST_PIPE_ONLY"  # a variable that tests set to try the pipe on Linux
KILL_AFTER_SECONDS = 5.0  # the command gets this long to react to SIGNAL


def main(arguments: list[str]) -> int:
    """Become the command, or watch over it; the command's exit code."""
    parent, death_signal, command = int(arguments[0]), int(arguments[1]), arguments[2:]
    if os.environ.pop(PIPE_ONLY, "") or not signal_on_parents_death(death_signal):
        return watch(command, death_signal)
    if os.getppid() != parent:
        return 1  # the parent ended before the kernel was asked
    return os.execv(command[0], command)


def signal_on_parents_death(death_signal: int) -> bool:
    """Ask the kernel to send this process `death_signal` when its parent ends. False where that is impossible."""
    if not sys.platform.startswith("linux"):
        return False
    import ctypes

    return bool(ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0) == 0)


def watch(command: list[str], death_signal: int) -> int:
    """Run the command until it ends or standard input closes."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    signal.signal(signal.SIGTERM, lambda *_: child.send_signal(signal.SIGTERM))

    def end_with_parent() -> None:
        while os.read(0, 4096):
            pass
        child.send_signal(death_signal)
        try:
            child.wait(KILL_AFTER_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()

    threading.Thread(target=end_with_parent, daemon=True).start()
    code = child.wait()
    return 128 - code if code < 0 else code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
