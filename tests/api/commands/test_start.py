"""What a start refuses or warns about, as processes: in words, and before anything says that the service is ready."""

import importlib
import subprocess
import sys
from importlib.metadata import version

import pytest

from tests import support


def run(*arguments, **settings):
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=support.ROOT,
        env=support.environment(**settings),
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("module", ["api", "worker", "models"])
def test_every_command_tells_its_version(module, capsys):
    main = importlib.import_module(f"{module}.__main__").main
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert (ended.value.code, capsys.readouterr().out) == (0, f"lama-refinery {version('lama-refinery')}\n")


def test_a_named_network_without_weights_stops_the_start_and_a_misspelt_setting_is_warned_about(tmp_path):
    settings = {"network": "big-lama", "weights_dir": tmp_path, "max_pixel": 1, "data_dir": tmp_path}
    service = run("api", "--embedded", "--port", "0", "--data", str(tmp_path / "data"), **settings)
    worker = run("worker", redis_url="redis://127.0.0.1:1/0", **settings)
    for done, code in ((service, 1), (worker, 2)):
        said = done.stdout + done.stderr
        assert done.returncode == code, said
        assert "REFINERY_NETWORK: Big-LaMa's weights are not at" in said
        assert "lama-refinery weights download big-lama" in said
        assert (
            "REFINERY_MAX_PIXEL is no setting of this service and has no effect: did you mean REFINERY_MAX_PIXELS?"
            in said
        )
        assert "REFINERY_DATA_DIR is no setting of this service and has no effect: docs/settings.md" in said
        assert "Traceback" not in said
        assert "lama-refinery is at" not in said
    assert not (tmp_path / "data").exists()
