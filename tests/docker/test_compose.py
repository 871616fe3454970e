"""No container engine is needed: the files are held against the Compose schema and against `make`."""

import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def test_compose_file_follows_the_compose_specification():
    schema = json.loads((Path(__file__).parent / "compose_spec.json").read_text())
    jsonschema.Draft7Validator(schema).validate(COMPOSE)


def test_valkey_keeps_what_it_is_told():
    command = COMPOSE["services"]["valkey"]["command"]
    assert command[command.index("--appendonly") + 1] == "yes"
    assert command[command.index("--maxmemory-policy") + 1] == "noeviction"


def test_every_setting_in_the_compose_file_exists():
    from jobs.settings import PREFIX, Settings

    used = {name for s in COMPOSE["services"].values() for name in s.get("environment", {})}
    assert used
    assert {name.removeprefix(PREFIX).lower() for name in used} <= set(Settings.model_fields)


@pytest.mark.parametrize("name", ["api", "worker-gpu", "worker-cpu"])
def test_containers_are_locked_down(name):
    service = COMPOSE["services"][name]
    assert (service["read_only"], service["tmpfs"], service["cap_drop"]) == (True, ["/tmp"], ["ALL"])
    image = (ROOT / f"docker/{name.split('-')[0]}.Dockerfile").read_text()
    assert "healthcheck" in service or "HEALTHCHECK" in image


def test_workers_have_more_time_than_they_take_to_stop():
    from jobs.settings import Settings
    from worker.service import HAND_BACK_SECONDS

    for name in ("worker-gpu", "worker-cpu"):
        seconds = int(COMPOSE["services"][name]["stop_grace_period"].removesuffix("s"))
        assert seconds > Settings().shutdown_grace_seconds + HAND_BACK_SECONDS


@pytest.mark.parametrize("name", ["api", "worker"])
def test_images_install_with_make_and_copy_what_exists(name):
    text = (ROOT / f"docker/{name}.Dockerfile").read_text()
    assert re.search(r"make install EXTRAS=\w+ VENV=/venv", text)
    for line in text.splitlines():
        if line.startswith("COPY") and "--from" not in line:
            for source in line.split()[1:-1]:
                assert (ROOT / source).exists(), source
    assert f'ENTRYPOINT ["/venv/bin/python", "-m", "{name}"]' in text
    assert "USER refinery" in text


def test_the_api_image_has_no_torch():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    installed = project["dependencies"] + project["optional-dependencies"]["service"]
    assert not [name for name in installed if "torch" in name]
