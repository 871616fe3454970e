"""Whatever bytes a client sends, it gets an answer, and never one that says that the service is at fault."""

import json
import string

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from jobs.parameters import Parameters
from tests import support
from tests.api.routes.test_jobs import finish, submit

EXAMPLES = settings(max_examples=60, suppress_health_check=list(HealthCheck))
FIELDS = [*Parameters.model_fields, "image", "mask", "image_url", "mask_url", "nothing"]
TEXT = st.text(st.characters(), max_size=30)  # with surrogates
URLS = st.sampled_from(["data:,", "data:;base64,", "data:image/png;base64,", "https://", "http://[", "file:", ""])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.builds(str.__add__, URLS, TEXT),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
HEADER = st.text([chr(c) for c in (*range(32, 127), *range(160, 256))], max_size=60).map(str.strip)
HEADERS = (
    *("accept", "authorization", "x-api-key", "idempotency-key", "if-none-match", "if-range", "last-event-id"),
    *("origin", "prefer", "range", "sec-fetch-site", "traceparent", "x-request-id"),
)


def check(answer):
    assert answer.status_code < 500, answer.text
    return answer


def test_json_bodies(api, service):
    @EXAMPLES
    @given(st.binary(max_size=60) | st.dictionaries(st.sampled_from(FIELDS) | TEXT, VALUES, max_size=6))
    @example({"image_url": "data:image/png;base64,\ud800"})
    @example({"image_url": "https://a/\ud800"})
    @example({"image_url": "https://[::1", "mask_url": "//["})
    @example({"image_url": "https://a:99999/"})
    @example({"image_url": "https://" + "a" * 300 + "/"})
    @example({"image_url": "data:,", "metadata": {"\ud800": "\udfff"}})
    @example({"image_url": "data:,", "iterations": 10**400, "learning_rate": 1e999})
    def send(body):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        for headers in ({}, {"idempotency-key": '"k"'}):
            for path in ("/v1/jobs", "/v1/images"):
                check(api.post(path, content=content, headers={"content-type": "application/json", **headers}))

    send()


def test_forms(api):
    names = st.sampled_from([name.encode() for name in FIELDS]) | st.binary(max_size=8)
    lines = st.sampled_from(
        [
            b"",
            b"Content-Type: text/plain",
            b"Content-Type: ;;;",
            b"Content-Transfer-Encoding: base64",
            b":",
            b"x",
            b"\0: y",
        ]
    )
    parts = st.tuples(names, st.none() | st.binary(max_size=12), lines, st.binary(max_size=40))
    charsets = st.sampled_from(["", "; charset=punycode", "; charset=idna", "; charset=undefined", "; charset=\xe9"])
    ends = st.sampled_from([b"--x--\r\n", b"--x--", b"--x", b"", b"\r\n--x--\r\n--x\r\n"])

    @EXAMPLES
    @given(st.lists(parts, max_size=4), charsets | st.text(string.printable, max_size=20).map(" ;".__add__), ends)
    def send(parts, parameters, end):
        body = b""
        for name, filename, line, data in parts:
            body += b'--x\r\nContent-Disposition: form-data; name="' + name + b'"'
            body += b"" if filename is None else b'; filename="' + filename + b'"'
            body += b"\r\n" + (line + b"\r\n" if line else b"") + b"\r\n" + data + b"\r\n"
        legal = "".join(c for c in parameters if c.isprintable())
        headers = {"content-type": f"multipart/form-data; boundary=x{legal}".rstrip().encode("latin-1")}
        check(api.post("/v1/jobs", content=body + end, headers=headers))

    send()


def test_form_fields(api):
    @EXAMPLES
    @given(st.dictionaries(st.sampled_from(FIELDS), st.text(max_size=40) | VALUES.map(json.dumps), max_size=5))
    @example({"metadata": '{"a": "\\ud800"}'})
    @example({"metadata": "[" * 20_000})
    @example({"metadata": '{"a": 1' + "0" * 5000 + "}"})
    @example({"webhook_url": "https://[::1%25eth0]/"})
    def send(fields):
        check(api.post("/v1/jobs", files=support.form(), data=fields))

    send()


@pytest.mark.parametrize(
    "path", ["/v1/jobs", "/v1/jobs/{id}", "/v1/jobs/{id}/result", "/v1/jobs/{id}/events", "/metrics"]
)
def test_headers(api, service, path):
    job_id = submit(api)
    finish(service, job_id)

    @EXAMPLES
    @given(st.dictionaries(st.sampled_from(HEADERS), HEADER, max_size=5))
    def send(headers):
        check(api.get(path.format(id=job_id), headers={n: v.encode("latin-1") for n, v in headers.items()}))

    send()


def test_headers_of_submissions(api):
    @EXAMPLES
    @given(st.dictionaries(st.sampled_from(HEADERS), HEADER, max_size=5), HEADER)
    def send(headers, content_type):
        named = {n: v.encode("latin-1") for n, v in headers.items() if n != "prefer"}
        check(api.post("/v1/jobs", files=support.form(), headers=named))
        check(api.post("/v1/jobs", content=b"x", headers={**named, "content-type": content_type.encode("latin-1")}))

    send()


def test_queries_and_paths(api):
    @EXAMPLES
    @given(
        st.lists(st.tuples(st.sampled_from(["status", "limit", "cursor", "x"]), st.binary(max_size=20)), max_size=4),
        st.binary(max_size=12),
    )
    def send(query, segment):
        quote = "".join(f"%{byte:02x}" for byte in segment)
        text = "&".join(name + "=" + "".join(f"%{byte:02x}" for byte in value) for name, value in query)
        check(api.get(f"/v1/jobs?{text}"))
        for rest in ("", "/result", "/events", "/preview", "/deliveries"):
            check(api.get(f"/v1/jobs/{quote}{rest}"))

    send()


def test_as_many_wrong_fields_as_one_likes_get_a_short_answer(api):
    fields = {f"field{n}": "x" for n in range(400)}
    answer = check(api.post("/v1/jobs", json={"image_url": "data:,", **fields}))
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-parameters")
    assert len(answer.json()["errors"]) == 20
    assert "380 more" in answer.json()["detail"]
    assert len(answer.content) < 5000
    query = "&".join("status=x" for _ in range(2000))
    answer = check(api.get(f"/v1/jobs?{query}"))
    assert (answer.status_code, len(answer.json()["errors"])) == (422, 20)
    many = json.dumps({f"field{n}": 1 for n in range(20_000)}).encode()
    answer = check(api.post("/v1/jobs", content=many, headers={"content-type": "application/json"}))
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed-request")
    assert len(answer.content) < 1000


def test_an_image_sent_as_a_field_is_told_how_to_send_a_file(api):
    for size in (100, 400_000):
        body = b'--x\r\nContent-Disposition: form-data; name="image"\r\n\r\n' + b"x" * size + b"\r\n--x--\r\n"
        answer = api.post("/v1/jobs", content=body, headers={"content-type": "multipart/form-data; boundary=x"})
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "image")
        assert "file" in answer.json()["errors"][0]["message"]
