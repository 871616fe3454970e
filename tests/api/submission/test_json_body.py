"""JSON from strangers."""

import contextlib
import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.submission.json_body import MAX_ITEMS, parse

text = st.text(max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=30,
)


@given(values, st.booleans())
def test_what_is_json_is_read_as_the_library_does(value, ascii_only):
    assert parse(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@given(st.binary(max_size=200) | values.map(lambda value: json.dumps(value)[:-1].encode()))
def test_anything_else_is_a_value_error(body):
    with contextlib.suppress(ValueError):
        parse(body)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"a": 1, "a": 2}', "twice"),
        (b'{"a": {"b": 1, "b": 1}}', "twice"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": -Infinity}', "-Infinity"),
        (rb'{"a": "\ud800"}', "Unicode"),
        (rb'{"\udfff": 1}', "Unicode"),
        (rb'{"a": {"b": "x\ud800"}}', "Unicode"),
        (b'{"a": "\xff"}', "UTF-8"),
        ('{"a": "b"}'.encode("utf-16"), "UTF-8"),
        (b'{"a": ' + b"9" * 5000 + b"}", "valid JSON"),
        (b"", "valid JSON"),
        (b'{"a": 1} {}', "valid JSON"),
        (b"{" + b",".join(b'"%d":1' % n for n in range(MAX_ITEMS + 1)) + b"}", "items"),
        (b"[" * 100_000, "items"),
        (b'{"a":' * 100_000, "items"),
        (b"[" + b"1," * 2_000_000, "items"),
        (b"[" + b'"",' * 2_000_000, "items"),
        (b'"' + b"\\" * 5_000_000, "valid JSON"),
    ],
)
def test_what_is_refused_and_why(body, says):
    with pytest.raises(ValueError, match=says):
        parse(body)


def test_a_long_string_is_no_structure():
    sent = {"image_url": "data:," + '[{,"\\' * 300_000}
    assert parse(json.dumps({"image_url": "data:," + "[{,:" * 500_000}).encode())
    with pytest.raises(ValueError, match="items"):  # quotes are counted wherever they are: no URL has so many
        parse(json.dumps(sent).encode())


def test_an_absurd_body_is_refused_before_anything_is_built():
    body = b"{" + b",".join(b'"field%d":1' % n for n in range(300_000)) + b"}"
    tracemalloc.start()
    with pytest.raises(ValueError, match="items"):
        parse(body)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < len(body) / 10
