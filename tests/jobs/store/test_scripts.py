"""Lua scripts: loaded from files, called with named parameters."""

import re
import shutil
import subprocess

import pytest

from jobs.store import scripts
from jobs.store.scripts import FOLDER, Script

FILES = sorted(path.stem for path in FOLDER.glob("*.lua"))


@pytest.fixture
def script(service, tmp_path, monkeypatch):
    """Makes a script of a text; other files lie beside it."""
    monkeypatch.setattr("jobs.store.scripts.FOLDER", tmp_path)

    def make(text, *, even_when_full=False, **others):
        for name, other in {**others, "it": text}.items():
            (tmp_path / f"{name}.lua").write_text(other)
        return Script(service.redis, "it", even_when_full=even_when_full)

    scripts._load.cache_clear()
    yield make
    scripts._load.cache_clear()


def test_values_arrive_as_the_text_that_they_are(script, service):
    service.redis.set("here", "x")
    run = script(
        "return {redis.call('GET', keys.place), args.text, args.number, args.yes, args.no, args.none, "
        "cjson.decode(args.list)[2], cjson.decode(args.map).a}"
    )
    found = run(
        place="here", text="t\x00ä", number=10**13, yes=True, no=False, none=None, list=["a", "b"], map={"a": "c"}
    )
    assert found == ["x", "t\x00ä", "10000000000000", "1", "0", "", "b", "c"]


def test_shared_keys_are_filled_in(script, service):
    service.redis.zadd("refinery:queued", {"a": 1})
    assert script("return {redis.call('ZCARD', keys.queued), keys.index_pattern}")() == [1, "refinery:index:%s:%s"]


@pytest.mark.parametrize("given", [{}, {"one": 1}, {"one": 1, "two": 2, "three": 3}])
def test_a_call_has_exactly_the_parameters_that_the_script_uses(script, given):
    with pytest.raises(TypeError, match=r"two|three"):
        script("return {args.one, keys.two} -- args.four is only talked about")(**given)


def test_a_file_that_is_included_twice_is_there_once(script):
    run = script(
        "-- include: a\n-- include: b\nreturn count",
        a="-- include: b\ncount = count + 10\n",
        b="local count = (count or 0) + 1\n",
    )
    assert run.text.count("or 0") == 1


def test_a_script_may_run_in_a_store_that_is_full(script):
    assert not script("return 1").text.startswith("#!lua")
    assert script("return 1", even_when_full=True).text.startswith("#!lua flags=allow-oom\n")


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_lua_and_every_script_is_accepted_by_the_server(service, name):
    script = Script(service.redis, name)
    assert service.redis.script_load(script.text) == script.sha
    if compiler := shutil.which("luac"):
        subprocess.run([compiler, "-p", str(FOLDER / f"{name}.lua")], check=True)


def test_no_script_sets_a_global_or_reads_a_clock_of_its_own():
    for name in FILES:
        text = re.sub(r"--.*", "", (FOLDER / f"{name}.lua").read_text())
        assert ("'TIME'" in text) == (name == "clock")
