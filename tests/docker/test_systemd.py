"""The systemd units: accepted by systemd itself, and true to the code."""

import shutil
import subprocess
from pathlib import Path

import pytest

from jobs.settings import Settings
from tests import support

UNITS = sorted((support.ROOT / "deploy/systemd").glob("*.service"))


def values(unit, key):
    lines = unit.read_text().splitlines()
    return [line.partition("=")[2] for line in lines if line.startswith(f"{key}=")]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_accepts_the_unit(tmp_path, unit):
    # Verifying asks for the programs and users that a unit names; here stand-ins have their place.
    text = unit.read_text().replace("/opt/lama-refinery/.venv/bin/python", "/bin/true")
    text = text.replace("User=lama-refinery", "User=root").replace("WorkingDirectory=/opt/lama-refinery\n", "")
    text = text.replace("Documentation=file:///opt/lama-refinery/docs/deploy.md\n", "")
    copy = tmp_path / unit.name.replace("@.", "@0.")
    copy.write_text(text)
    done = subprocess.run(["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, [line for line in done.stderr.splitlines() if copy.name in line]) == (0, [])


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_starts_a_module_that_exists(unit):
    (command,) = values(unit, "ExecStart")
    module = command.split(" -m ")[1].split()[0]
    assert (support.ROOT / module / "__main__.py").exists()


def test_a_worker_gets_the_time_that_it_may_take_to_stop():
    (worker,) = (unit for unit in UNITS if "worker" in unit.name)
    (seconds,) = values(worker, "TimeoutStopSec")
    assert int(seconds) > Settings().shutdown_grace_seconds + 5


def test_the_manual_names_every_unit():
    manual = (Path(support.ROOT) / "docs/deploy.md").read_text()
    for unit in UNITS:
        assert unit.name.removesuffix(".service") in manual
