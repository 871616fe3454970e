"""The manifests: against Kubernetes' own schemas, and against what the code calls things."""

import copy
import re
import subprocess
import sys

import kubernetes_validate
import pytest
import yaml
from cloudcoil.models.keda.v1alpha1 import ScaledObject

from api.app import create_app
from jobs.settings import PREFIX, Settings
from jobs.telemetry.backlog import queue_seconds
from tests import support

FOLDER = support.ROOT / "deploy" / "kubernetes"
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
DOCUMENTS = [
    (path.name, document)
    for path in sorted(FOLDER.glob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text())
    if document["kind"] not in ("Kustomization", "ScaledObject")  # not Kubernetes' own
]
PODS = [
    (document["metadata"]["name"], document["spec"]["template"]["spec"])
    for _, document in DOCUMENTS
    if document["kind"] in ("Deployment", "StatefulSet", "Job")
]
SCALED = yaml.safe_load((FOLDER / "autoscaling.yaml").read_text())
CONFIG = next(d["data"] for _, d in DOCUMENTS if d["kind"] == "ConfigMap")


@pytest.mark.parametrize(("file", "document"), DOCUMENTS, ids=lambda value: value if isinstance(value, str) else "")
def test_every_manifest_follows_kubernetes_schema(file, document):
    kubernetes_validate.validate(document, "1.33", strict=True)


def test_the_schema_refuses_what_is_wrong():
    wrong = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}, "spec": {"replica": 1}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.33", strict=True)


def test_the_kustomization_names_files_that_exist():
    for name in KUSTOMIZATION["resources"]:
        assert (FOLDER / name).exists(), name
    left_out = {path.name for path in FOLDER.glob("*.yaml")} - set(KUSTOMIZATION["resources"])
    assert left_out == {"kustomization.yaml", "autoscaling.yaml", "first-key.yaml"}


@pytest.mark.parametrize(("name", "pod"), PODS)
def test_every_pod_is_locked_down(name, pod):
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    for container in pod["containers"] + pod.get("initContainers", []):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]["memory"]


def test_every_setting_exists_and_has_a_value_that_is_taken(monkeypatch):
    variables = dict(CONFIG)
    for _, pod in PODS:
        for container in pod["containers"]:
            variables |= {item["name"]: item["value"] for item in container.get("env", [])}
    ours = {name for name in variables if name.startswith(PREFIX)}
    assert ours
    assert {name.removeprefix(PREFIX).lower() for name in ours} <= set(Settings.model_fields)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert Settings().blobs_url.startswith("s3://")


def test_probes_ask_for_what_there_is(settings):
    app = create_app(settings)
    app.state.service.close()
    for _, pod in PODS:
        for container in pod["containers"]:
            ports = {port["name"] for port in container.get("ports", [])}
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                asked = container.get(probe, {})
                if "httpGet" in asked:
                    assert asked["httpGet"]["path"] in app.openapi()["paths"]
                for kind in ("httpGet", "tcpSocket"):
                    assert kind not in asked or asked[kind]["port"] in ports


def test_commands_in_a_worker_are_ones_that_there_are(monkeypatch, tmp_path, valkey_url):
    """Readiness, and the fetching of weights: run here as they are run there."""
    (container,), (fetching,) = dict(PODS)["worker"]["containers"], dict(PODS)["worker"]["initContainers"]
    monkeypatch.setenv("REFINERY_REDIS_URL", valkey_url)
    for command, code, said in (
        (container["readinessProbe"]["exec"]["command"], 1, "no worker of"),
        ([*fetching["command"], "--url", (tmp_path / "none").as_uri()], 2, "cannot be read"),
    ):
        monkeypatch.setenv("REFINERY_WEIGHTS_DIR", str(tmp_path / "weights"))
        done = subprocess.run([sys.executable, *command[1:]], cwd=support.ROOT, capture_output=True, text=True)
        assert (command[0], done.returncode) == ("/venv/bin/python", code), done.stderr
        assert said in done.stderr
    assert fetching["image"] == container["image"]
    assert "REFINERY_WEIGHTS_DIR=/weights" in (support.ROOT / "docker/worker.Dockerfile").read_text()
    assert {"name": "weights", "mountPath": "/weights"} in fetching["volumeMounts"]


def test_workers_are_replaced_without_a_spare_gpu():
    (worker,) = [d for _, d in DOCUMENTS if d["kind"] == "Deployment" and d["metadata"]["name"] == "worker"]
    assert worker["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}


def test_images_and_users_are_those_of_the_dockerfiles():
    named = {image["name"] for image in KUSTOMIZATION["images"]}
    for name in ("api", "worker"):
        pod = dict(PODS)[name]
        text = (support.ROOT / f"docker/{name}.Dockerfile").read_text()
        assert pod["containers"][0]["image"] in named
        assert f"--uid {pod['securityContext']['runAsUser']} " in text
        assert "command" not in pod["containers"][0]  # the image's own entry point


def test_a_worker_has_more_time_than_it_takes_to_stop():
    from worker.shutdown import HAND_BACK_SECONDS

    pod = dict(PODS)["worker"]
    (grace,) = [v["value"] for v in pod["containers"][0]["env"] if v["name"] == "REFINERY_SHUTDOWN_GRACE_SECONDS"]
    assert pod["terminationGracePeriodSeconds"] > float(grace) + HAND_BACK_SECONDS


def read_back(scaled):
    """What KEDA's types make of it; they pass over what they do not know."""
    return ScaledObject.model_validate(scaled).model_dump(mode="json", by_alias=True, exclude_none=True)


def test_the_scaler_follows_kedas_schema():
    assert read_back(SCALED) == SCALED
    wrong = copy.deepcopy(SCALED)
    wrong["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behaviour"] = {}
    assert read_back(wrong) == SCALED != wrong


def test_the_scaler_keeps_workers_for_a_while():
    """cooldownPeriod is for scaling to zero alone."""
    assert SCALED["spec"]["minReplicaCount"] > 0
    assert "cooldownPeriod" not in SCALED["spec"]
    behavior = SCALED["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert behavior["scaleDown"]["stabilizationWindowSeconds"] == 600


def test_the_scaler_asks_for_a_metric_that_there_is(service):
    (trigger,) = SCALED["spec"]["triggers"]
    from jobs.telemetry.metrics import ServiceCollector

    names = {metric.name for metric in ServiceCollector(service.redis, service.blobs).collect()}
    assert set(re.findall(r"refinery_\w+", trigger["metadata"]["query"])) <= names
    assert SCALED["spec"]["scaleTargetRef"]["name"] in dict(PODS)
    assert queue_seconds(service.redis)
