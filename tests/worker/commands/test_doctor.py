"""`lama-refinery doctor`, `serve` and the operator's commands under one name, as processes."""

import json
import subprocess
import sys

from tests import support


def run(*arguments, **settings):
    return subprocess.run(
        [sys.executable, "-m", "lama_refinery_client", *arguments],
        cwd=support.ROOT,
        env=support.environment(**settings),
        capture_output=True,
        text=True,
        timeout=120,
    )


def findings(**settings):
    done = run("doctor", "--json", **settings)
    return done.returncode, json.loads(done.stdout)


def of(found, subject):
    return [one for one in found if one["subject"] == subject]


def test_a_machine_where_all_is_well(valkey_url, tmp_path):
    code, found = findings(redis_url=valkey_url, blobs_url=(tmp_path / "blobs").as_uri(), weights_dir=str(tmp_path))
    assert code == 0, found
    assert [one["state"] for one in found if one["subject"] in ("versions", "device", "store", "images")] == ["ok"] * 4
    (networks,) = of(found, "networks")
    assert (networks["state"], "weights download big-lama" in networks["message"]) == ("hint", True)


def test_what_is_wrong_is_named_with_what_to_do(tmp_path):
    code, found = findings(redis_url="redis://127.0.0.1:1/0", network="big-lama", weights_dir=str(tmp_path), foo="1")
    wrong = " ".join(one["message"] for one in found if one["state"] == "error")
    assert code == 1
    for words in (
        "REFINERY_REDIS_URL",
        "weights download big-lama",
        "REFINERY_FOO is no setting",
    ):
        assert words in wrong
    code, found = findings(max_pixels="-3")
    assert (code, "REFINERY_MAX_PIXELS" in of(found, "settings")[0]["message"]) == (1, True)


def test_secrets_are_not_shown(valkey_url):
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    done = run("doctor", redis_url=valkey_url, webhook_secrets=secret, metrics_token="hidden-token")
    assert "REFINERY_METRICS_TOKEN=(secret)" in done.stdout
    assert secret not in done.stdout
    assert "hidden-token" not in done.stdout


def test_the_operators_commands_have_one_name(valkey_url):
    shown = run("--help").stdout
    for name in ("fill", "jobs", "plan", "weights", "serve", "worker", "keys", "status", "dead-letters", "doctor"):
        assert f"  {name} " in shown
    assert "Usage: lama-refinery status" in run("status", "--help").stdout
    assert "--queued-jobs" in run("keys", "create", "--help").stdout
    assert run("dead-letters", "list", "--json", redis_url=valkey_url).returncode == 0
    assert run("keys", "list", "--json", redis_url=valkey_url).returncode == 0
    refused = run("serve", "--redis", valkey_url, "--data", "somewhere")
    assert (refused.returncode, "leave out --redis" in refused.stderr) == (2, True)
