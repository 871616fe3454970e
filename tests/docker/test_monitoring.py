"""The dashboard and the alerts: they ask for metrics that there are, and every alert is explained."""

import json
import re
import shutil
import subprocess

import pytest
import yaml
from prometheus_client import generate_latest

from api.middleware.request_metrics import RequestMetrics
from jobs.store.heartbeat import Presence, WorkerState
from jobs.telemetry.overview import JOB_EVENTS
from tests import support
from tests.exposition import names
from worker.metrics import STAGES, StateCollector, WorkerMetrics

DEPLOY = support.ROOT / "deploy"
ALERTS = [
    rule
    for group in yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
DASHBOARD = json.loads((DEPLOY / "grafana/lama-refinery.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]
EXPRESSIONS = [*(rule["expr"] for rule in ALERTS), *QUERIES]
METRIC = re.compile(r"\b(?:refinery|process)_\w+")
PROMTOOL = shutil.which("promtool")
asks_prometheus = pytest.mark.skipif(
    PROMTOOL is None, reason="promtool, of Debian's package prometheus, is not installed"
)


@pytest.fixture
def exported(service, store):
    """The names of everything that api and worker show."""
    worker = WorkerMetrics()
    present = Presence(name="w", state=WorkerState.READY, reason="", since=store.now(), gpu_busy=0.5)
    worker.registry.register(StateCollector(lambda: present))
    registries = (RequestMetrics(service).registry, worker.registry)
    return set().union(*(names(generate_latest(registry).decode()) for registry in registries))


def test_they_use_metrics_that_there_are(exported):
    used = {name for expression in EXPRESSIONS for name in METRIC.findall(expression)}
    assert len(used) > 20
    assert used <= exported, used - exported


def test_the_dashboard_shows_every_metric(exported):
    """One that nobody looks at is not worth its series."""
    used = {name for expression in EXPRESSIONS for name in METRIC.findall(expression)}
    families = {re.sub(r"_(bucket|sum|count|total)$", "", name) for name in used}
    ours = {
        re.sub(r"_(bucket|sum|count|total)$", "", name)
        for name in exported
        if name.startswith("refinery_") and not name.endswith("_created")
    }
    assert ours - families <= {"refinery_worker_state"}  # of one process, for those who look at that one


def test_they_select_labels_that_there_are():
    allowed = {
        "event": set(JOB_EVENTS),
        "stage": set(STAGES),
        "kind": {"photo", "hole"},
        "state": {"queued", "running", "final", *WorkerState},
        "process": {"api", "worker"},
        "priority": {"high", "normal", "low"},
        "route": {"/v1/jobs", ".*/events"},
        "method": {"POST"},
        "status": {"500", "503"},
        "code": {"internal-error", "out-of-memory", "worker-lost", "service-unavailable"},
    }
    for expression in EXPRESSIONS:
        for label, values in re.findall(r'(\w+)[=!]~?"([^"]*)"', expression):
            assert set(values.split("|")) <= allowed[label], (label, values)


def test_every_alert_is_explained():
    page = (support.ROOT / "docs/operations.md").read_text()
    assert re.findall(r"^### (Refinery\w+)$", page, re.MULTILINE) == [
        rule["alert"] for rule in sorted(ALERTS, key=lambda rule: page.find(f"### {rule['alert']}\n"))
    ]
    assert len({rule["alert"] for rule in ALERTS}) == len(ALERTS)


def test_every_alert_is_tried_both_ways():
    trials = [
        trial
        for test in yaml.safe_load((DEPLOY / "prometheus/alerts_test.yml").read_text())["tests"]
        for trial in test["alert_rule_test"]
    ]
    named = {rule["alert"] for rule in ALERTS}
    assert {trial["alertname"] for trial in trials if trial.get("exp_alerts")} == named
    assert {trial["alertname"] for trial in trials if not trial.get("exp_alerts")} == named


def test_alerts_say_what_they_are_and_how_bad():
    for rule in ALERTS:
        assert set(rule) - {"for"} == {"alert", "expr", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"]["summary"]


def jobs_of(file):
    config = yaml.safe_load((DEPLOY / "prometheus" / file).read_text())
    return {job["job_name"]: job for job in config["scrape_configs"]}


def test_prometheus_finds_what_compose_runs():
    services = yaml.safe_load((support.ROOT / "docker-compose.yml").read_text())["services"]
    jobs = jobs_of("prometheus.yml")
    (api,), (worker,) = (jobs[name]["dns_sd_configs"] for name in ("refinery-api", "refinery-worker"))
    assert api["names"] == ["api"]
    assert services["api"]["ports"] == [f"127.0.0.1:8000:{api['port']}"]
    for name in ("worker-gpu", "worker-cpu"):
        assert services[name]["networks"]["default"]["aliases"] == worker["names"]
        told = services[name]["environment"]
        assert (told["REFINERY_METRICS_PORT"], told["REFINERY_METRICS_HOST"]) == (str(worker["port"]), "0.0.0.0")
    assert {service["environment"]["REFINERY_METRICS_TOKEN"] for name, service in services.items() if name != "valkey"}


def test_prometheus_finds_the_pods():
    asked = {}
    for job in jobs_of("prometheus-kubernetes.yml").values():
        (pods,) = job["kubernetes_sd_configs"]
        assert pods == {"role": "pod", "namespaces": {"names": ["lama-refinery"]}}
        kept = job["relabel_configs"][0]
        assert kept["action"] == "keep"
        app, port = kept["regex"].split(";")
        asked[app] = port
    assert set(asked) == {"api", "worker"}
    for app, port in asked.items():
        (pod,) = [
            document["spec"]["template"]
            for document in yaml.safe_load_all((DEPLOY / f"kubernetes/{app}.yaml").read_text())
            if document["kind"] == "Deployment"
        ]
        assert pod["metadata"]["labels"]["app"] == app
        assert port in {given["name"] for given in pod["spec"]["containers"][0]["ports"]}


def test_both_configurations_have_the_same_jobs():
    """The alerts and the dashboard know nothing of where they run."""
    assert set(jobs_of("prometheus.yml")) == set(jobs_of("prometheus-kubernetes.yml"))


@asks_prometheus
@pytest.mark.parametrize("file", ["prometheus.yml", "prometheus-kubernetes.yml"])
def test_prometheus_reads_its_configuration(file, tmp_path):
    config = yaml.safe_load((DEPLOY / "prometheus" / file).read_text())
    for job in config["scrape_configs"]:
        job.pop("kubernetes_sd_configs", None)  # which Debian's Prometheus is built without
    (tmp_path / file).write_text(yaml.safe_dump(config))
    command = [PROMTOOL or "promtool", "check", "config", "--syntax-only", file]  # the token's file is not here
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@asks_prometheus
def test_prometheus_reads_the_rules_and_they_fire_when_they_should():
    for command in (["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]):
        done = subprocess.run(
            [PROMTOOL or "promtool", *command], cwd=DEPLOY / "prometheus", capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr


@asks_prometheus
def test_prometheus_reads_the_dashboards_queries(tmp_path):
    rules = [{"record": f"panel:{number}", "expr": query} for number, query in enumerate(QUERIES)]
    (tmp_path / "queries.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    done = subprocess.run(
        [PROMTOOL or "promtool", "check", "rules", "queries.yml"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_panels_have_a_title_a_place_and_one_source():
    taken = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
        assert panel["title"]
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    assert {panel["datasource"]["uid"] for panel in PANELS} == {"${datasource}"}
