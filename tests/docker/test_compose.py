"""No container engine is needed: the files are held against the Compose schema and against `make`."""

import itertools
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import imagecodecs
import jsonschema
import pytest
import redis
import yaml
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from api.embedded.valkey import find_binary
from jobs.store.heartbeat import Presence, WorkerState, announce
from jobs.telemetry.overview import overview_of

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def test_compose_file_follows_the_compose_specification():
    schema = json.loads((Path(__file__).parent / "compose_spec.json").read_text())
    jsonschema.Draft7Validator(schema).validate(COMPOSE)


def kubernetes_valkey():
    """The container, of the StatefulSet."""
    (stateful,) = [
        document
        for document in yaml.safe_load_all((ROOT / "deploy/kubernetes/valkey.yaml").read_text())
        if document["kind"] == "StatefulSet"
    ]
    return stateful["spec"]["template"]["spec"]["containers"][0]


@pytest.mark.parametrize("where", ["compose", "kubernetes"])
def test_valkey_keeps_what_it_is_told_and_says_when_it_is_full(where, tmp_path):
    command = COMPOSE["services"]["valkey"]["command"] if where == "compose" else kubernetes_valkey()["args"]
    options = dict(zip(command[1::2], command[2::2], strict=True)) | {"--dir": str(tmp_path)}
    ours = ["--port", "0", "--unixsocket", str(tmp_path / "v.sock"), "--logfile", str(tmp_path / "log")]
    with (
        subprocess.Popen([find_binary(), *itertools.chain(*options.items()), *ours]) as server,
        redis.Redis(unix_socket_path=str(tmp_path / "v.sock"), retry=Retry(ConstantBackoff(0.05), 200)) as client,
    ):
        try:
            seen = overview_of(client).store
            assert (seen.persistent, seen.evicts, seen.memory_limit_bytes) == (True, False, 600 << 20)
            client.config_set("maxmemory", seen.memory_bytes)
            with pytest.raises(redis.exceptions.OutOfMemoryError):
                client.set("job", b"x" * 100_000)
        finally:
            server.kill()


def test_valkey_has_room_above_its_limit():
    container = kubernetes_valkey()
    assert container["resources"]["limits"]["memory"] == "1Gi"
    assert int(container["args"][container["args"].index("--maxmemory") + 1].removesuffix("mb")) <= 1024 * 0.6


def test_valkey_is_not_ready_while_it_loads():
    """Only with -e does the command line end with an error for an answer such as LOADING."""
    asked = ["valkey-cli", "-e", "ping"]
    assert COMPOSE["services"]["valkey"]["healthcheck"]["test"] == ["CMD", *asked]
    assert kubernetes_valkey()["readinessProbe"]["exec"]["command"] == asked


def test_every_setting_in_the_compose_file_exists():
    from jobs.settings import PREFIX, Settings

    used = {name for s in COMPOSE["services"].values() for name in s.get("environment", {})} - {"TMPDIR"}
    assert used
    assert {name.removeprefix(PREFIX).lower() for name in used} <= set(Settings.model_fields)


def test_build_arguments_are_ones_that_the_images_take():
    for service in COMPOSE["services"].values():
        build = service.get("build", {})
        for name in build.get("args", {}):
            assert f"\nARG {name}\n" in (ROOT / build["dockerfile"]).read_text()
    assert COMPOSE["services"]["worker-cpu"]["build"]["args"]


def health_command(name):
    """What the image's HEALTHCHECK runs."""
    text = (ROOT / f"docker/{name}.Dockerfile").read_text()
    (command,) = re.findall(r"^HEALTHCHECK .*\\\n +CMD (\[.*\])$", text, re.MULTILINE)
    return json.loads(command)


def run_here(command, **environment):
    done = subprocess.run([sys.executable, *command[1:]], cwd=ROOT, env=os.environ | environment, capture_output=True)
    return done.returncode


def test_the_workers_health_is_what_it_says_of_itself(service, store):
    command, url = health_command("worker"), service.settings.redis_url
    assert run_here(command, REFINERY_REDIS_URL=url) == 1
    told = Presence(name="w", state=WorkerState.BUSY, reason="working", host=socket.gethostname(), since=store.now())
    announce(service.redis, told)
    assert run_here(command, REFINERY_REDIS_URL=url) == 0
    announce(service.redis, told.model_copy(update={"state": WorkerState.DEFUNCT}))
    assert run_here(command, REFINERY_REDIS_URL=url) == 1


def test_the_apis_health_is_that_it_answers(api):
    *command, program = health_command("api")
    assert "'http://127.0.0.1:8000/livez'" in program
    program = program.replace("http://127.0.0.1:8000", str(api.base_url).rstrip("/"))
    assert run_here([*command, program]) == 0
    assert run_here([*command, program.replace("/livez", "/nothing")]) == 1


@pytest.mark.parametrize("name", ["api", "worker-gpu", "worker-cpu"])
def test_containers_are_locked_down(name):
    service = COMPOSE["services"][name]
    assert (service["read_only"], service["tmpfs"], service["cap_drop"]) == (True, ["/tmp"], ["ALL"])
    assert "healthcheck" not in service  # the image's own
    assert health_command(name.split("-")[0])[0] == "/venv/bin/python"


def test_uploads_are_not_kept_in_memory():
    """They are staged in the directory of images, which is a volume."""
    api = COMPOSE["services"]["api"]
    assert api["environment"]["REFINERY_BLOBS_URL"] == "file:///data"
    assert "blobs:/data" in api["volumes"]
    assert "blobs" in COMPOSE["volumes"]


def test_workers_have_more_time_than_they_take_to_stop():
    from jobs.settings import Settings
    from worker.shutdown import HAND_BACK_SECONDS

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


def test_the_slimmed_api_reads_and_writes_every_image(tmp_path):
    """The tests that read and write pictures, with the two libraries as they are in the image."""
    packages = tmp_path / "lib" / "python3" / "site-packages"
    for name in ("imagecodecs", "imagecodecs.libs", "numpy", "numpy.libs"):
        shutil.copytree(Path(imagecodecs.__file__).parents[1] / name, packages / name)
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nPYTHONPATH={packages} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    subprocess.run(["sh", ROOT / "docker/slim-api.sh", tmp_path], check=True)
    assert len(list((packages / "imagecodecs").glob("_*.so"))) < 10
    inside = "import imagecodecs, sys; assert imagecodecs.__file__.startswith(sys.argv[1])"
    subprocess.run([python, "-c", inside, packages], check=True)
    suite = ["-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider"]
    suite += [f"tests/images/test_{name}.py" for name in ("read", "write", "metadata", "heif", "jxl")]
    done = subprocess.run([python, *suite], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_api_image_has_no_torch():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    installed = project["dependencies"] + project["optional-dependencies"]["service"]
    assert not [name for name in installed if "torch" in name]
