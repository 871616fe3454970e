"""The files of the web page. What the page does is tested in tests/browser."""

import re

import httpx2
import pytest

from tests import support

FOLDER = support.ROOT / "api" / "page"


def files():
    return [path for path in FOLDER.rglob("*") if path.is_file()]


@pytest.fixture
def fetch(api):
    """The page is no part of the api: answers are not held against the OpenAPI."""
    with httpx2.Client(base_url=api.base_url) as client:
        yield client.get


def test_the_page_and_all_that_it_loads_comes_from_here(fetch):
    index = fetch("/")
    assert index.headers["content-type"] == "text/html; charset=utf-8"
    loaded = re.findall(r'(?:href|src)="([^"#]+)"', index.text)
    assert "/page/main.js" in loaded
    for path in loaded:
        assert path.startswith("/")
        assert fetch(path).status_code == 200, path


def test_every_file_is_served_with_its_media_type(fetch):
    text = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
    types = {suffix: f"{kind}; charset=utf-8" for suffix, kind in text.items()}
    types |= {".jpg": "image/jpeg", ".svg": "image/svg+xml"}
    for file in files():
        answer = fetch(f"/page/{file.relative_to(FOLDER).as_posix()}")
        assert answer.content == file.read_bytes()
        assert answer.headers["content-type"] == types[file.suffix]
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_it_may_load_from_nowhere_else_and_has_no_inline_scripts(fetch):
    policy = fetch("/").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert not re.search(r"<script(?![^>]*src=)|<style|\son\w+=|\sstyle=", fetch("/").text)
    text = "".join(file.read_text() for file in files() if file.suffix in (".html", ".css", ".js"))
    assert set(re.findall(r"https?://[\w.]+", text)) == set()


def test_unchanged_files_are_not_sent_again(fetch):
    etag = fetch("/").headers["etag"]
    again = fetch("/", headers={"if-none-match": etag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    assert fetch("/", headers={"if-none-match": '"other"'}).status_code == 200


def test_there_is_nothing_else(api):
    paths = (
        "/page/",
        "/page/nope.js",
        "/page/styles",
        "/page/..%2fapp.py",
        "/page/../app.py",
        "/page/%2e%2e/app.py",
        "/page/%00",
    )
    for path in (*paths, "/page//etc/passwd", "/page/" + "a" * 5000):
        answer = api.get(path)
        assert (answer.status_code, answer.json()["code"]) == (404, "not-found"), path
    assert (FOLDER.parent / "app.py").exists()
    refused = api.post("/page/main.js")
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")


def test_head_tells_what_get_would(fetch, api):
    with httpx2.Client(base_url=api.base_url) as client:
        for path in ("/", "/page/main.js"):
            told, got = client.head(path), fetch(path)
            assert (told.status_code, told.content) == (200, b"")
            for name in ("etag", "content-length", "content-type", "content-security-policy"):
                assert told.headers[name] == got.headers[name]
