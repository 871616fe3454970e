"""schemathesis makes requests out of the service's own OpenAPI document, and holds the answers against it."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from jobs.store.owners.api_keys import Limits
from tests import support

SECONDS = 15
# They can ask for a network that no worker has, which is answered with 503.
ASKING_FOR_NETWORKS = ("POST /v1/jobs", "POST /v1/plans")
# A picture's content is nothing that a schema can describe, so that what is valid by the schema may be no picture.
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance,unsupported_method,allow_header_conformance,ignored_auth,use_after_free"
)
NO_LIMITS = [f"--{name.replace('_', '-')}=none" for name in Limits.model_fields if name != "max_priority"]


def config(document, jobs):
    """Which jobs there are: without them, what belongs to a job would answer 404 alone."""
    lines = ["[generation]", "database = 'none'"]
    for path, operations in document["paths"].items():
        if "{job_id}" in path:
            for method in operations:
                job_id = jobs["other"] if method == "delete" else jobs["failed" if "retry" in path else "done"]
                lines += ["[[operations]]", f'include-name = "{method.upper()} {path}"']
                lines += [f'parameters = {{ "path.job_id" = "{job_id}" }}']
    for name in ASKING_FOR_NETWORKS:
        lines += ["[[operations]]", f'include-name = "{name}"']
        lines += ["checks.not_a_server_error.expected-statuses = ['2xx', '3xx', '4xx', 503]"]
    text = "\n".join(lines)
    tomllib.loads(text)
    return text


def lasting(pid):
    """The service's Valkey and worker, without the codec and device processes, which may be replaced at any time."""
    return {
        child: command
        for child, command in support.descendants(pid).items()
        if "valkey-server" in command or command.split()[1:3] == ["-m", "worker"]
    }


def test_no_request_gets_an_answer_that_is_not_in_the_document(embedded, tmp_path):
    data = tmp_path / "data"
    made = subprocess.run(
        [sys.executable, "-m", "api", "keys", "create", "tester", *NO_LIMITS, "--data", data],
        cwd=support.ROOT,
        env=support.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    key = made.stdout.strip()
    service = embedded(
        data, max_wait_seconds=0.2, upload_stall_seconds=2, max_pixels=300_000, network_grace_seconds=1
    ).wait_ready()
    client = service.client
    client.headers["Authorization"] = f"Bearer {key}"
    jobs = {
        "done": service.submit(**support.FAST),
        "failed": service.submit(network="big-lama"),
        "other": service.submit(**support.FAST),
    }
    for job_id in jobs.values():
        support.wait_for_job(client, job_id)
    servers = lasting(service.process.pid)
    document = client.get("/openapi.json").json()
    (tmp_path / "schemathesis.toml").write_text(config(document, jobs))
    report = tmp_path / "report.json"
    command = [
        *(str(Path(sys.executable).with_name("schemathesis")), "--config-file", "schemathesis.toml", "--no-color"),
        *("run", f"{service.url}/openapi.json", "--header", f"Authorization: Bearer {key}"),
        *("--phases", "examples,coverage,fuzzing", "--checks", CHECKS, "--max-examples", "8", "--no-shrink"),
        *("--max-time", str(SECONDS), "--seed", "1", "--suppress-health-check", "all", "--request-timeout", "20"),
        *("--warnings", "off", "--report", "json", "--report-json-path", str(report)),
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-6000:]
    assert "Operations" in done.stdout, done.stdout
    assert json.loads(report.read_text())
    assert client.get("/readyz").json()["state"] in ("READY", "BUSY")
    assert len(servers) == 2
    assert lasting(service.process.pid) == servers
    assert not [line for line in service.lines if "Traceback" in line]
    failed = [
        match
        for line in service.lines
        if (match := re.search(r"api\.middleware\.request_context: (\w+ \S+) 5\d\d in", line))
    ]
    assert {match[1] for match in failed} <= {*ASKING_FOR_NETWORKS, "GET /readyz"}  # until it was ready
