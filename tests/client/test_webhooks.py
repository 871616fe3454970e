"""Webhooks are accepted exactly when Standard Webhooks says so: held against the published library's signatures."""

import base64
import json
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from lama_refinery_client import InvalidWebhook, verify_webhook

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_" + base64.b64encode(bytes(range(32))).decode()
NOW = 1_800_000_000
BODY = json.dumps(
    {"type": "job.succeeded", "timestamp": "2027-01-15T08:00:00Z", "data": {"id": "abc", "name": "Bü.png"}},
    ensure_ascii=False,
).encode()


def signed(body=BODY, secret=SECRET, at=NOW, message_id="msg_1"):
    """The headers that the library makes."""
    moment = datetime.fromtimestamp(at, UTC)  # aware: a naive one it would sign for another time
    signature = Webhook(secret).sign(message_id, moment, body.decode())
    return {"webhook-id": message_id, "webhook-timestamp": str(at), "webhook-signature": signature}


def verify(headers, body=BODY, secret=SECRET, **options):
    return verify_webhook(headers, body, secret, now=NOW, **options)


def test_an_event():
    event = verify(signed())
    assert (event.id, event.type, event.data) == ("msg_1", "job.succeeded", {"id": "abc", "name": "Bü.png"})
    assert event.timestamp == datetime(2027, 1, 15, 8, tzinfo=UTC)


def test_the_clock_is_this_machines_unless_one_is_given():
    assert verify_webhook(signed(at=int(time.time())), BODY, SECRET).id == "msg_1"
    with pytest.raises(InvalidWebhook, match="too old"):
        verify_webhook(signed(at=int(time.time()) - 400), BODY, SECRET)


def test_headers_in_any_case_and_a_body_as_text():
    headers = {name.title(): value for name, value in signed().items()}
    assert verify(headers, BODY.decode()).type == "job.succeeded"


def test_a_secret_without_its_prefix_or_padding():
    assert verify(signed(secret=OTHER), secret=OTHER.removeprefix("whsec_")).id == "msg_1"
    assert verify(signed(secret=OTHER), secret=OTHER.rstrip("=")).id == "msg_1"


def test_rotating_secrets():
    old, new = signed(), signed(secret=OTHER)
    both = {**old, "webhook-signature": f"v1a,AAAA {new['webhook-signature']} {old['webhook-signature']}"}
    for headers in (old, new, both):
        assert verify(headers, secret=[OTHER, SECRET]).id == "msg_1"
    assert verify(both, secret=SECRET).id == verify(both, secret=OTHER).id == "msg_1"


@pytest.mark.parametrize(
    "changed",
    [
        {"webhook-id": "msg_2"},
        {"webhook-timestamp": str(NOW + 1)},
        {"webhook-signature": "v1," + base64.b64encode(bytes(32)).decode()},
        {"webhook-signature": signed()["webhook-signature"].replace("v1,", "v2,")},
        {"webhook-signature": signed()["webhook-signature"].replace("v1,", "")},
        {"webhook-signature": signed()["webhook-signature"].replace(",", "")},
        {"webhook-signature": signed()["webhook-signature"][:-4]},
        {"webhook-signature": signed(secret=OTHER)["webhook-signature"]},
        {"webhook-signature": "v1, v1,ä , ,"},
        {"webhook-signature": ""},
        {"webhook-id": " "},
        {"webhook-timestamp": f"{NOW}.0"},
        {"webhook-timestamp": "٣"},
        {"webhook-timestamp": "-1"},
    ],
    ids=repr,
)
def test_what_is_not_signed_by_us(changed):
    with pytest.raises(InvalidWebhook):
        verify({**signed(), **changed})


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_a_header_is_missing(name):
    with pytest.raises(InvalidWebhook, match=f"the header {name} is missing"):
        verify({other: value for other, value in signed().items() if other != name})


def test_the_tolerance():
    for at in (NOW - 300, NOW + 300):
        assert verify(signed(at=at)).id == "msg_1"
    for at, why in ((NOW - 301, "old"), (NOW + 301, "future")):
        with pytest.raises(InvalidWebhook, match=why):
            verify(signed(at=at))
    assert verify(signed(at=NOW - 3000), tolerance_seconds=3600).id == "msg_1"


@pytest.mark.parametrize("body", [b"{}", b"[]", b"", b"no JSON", b'{"type": "a", "timestamp": "x", "data": {}}'])
def test_signed_but_no_event(body):
    with pytest.raises(InvalidWebhook, match="the signature is right, but"):
        verify(signed(body), body)


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_!!!!", "not base64 ü", []])
def test_what_is_no_secret(secret):
    with pytest.raises(ValueError, match="secret") as caught:
        verify(signed(), secret=secret)
    assert not isinstance(caught.value, InvalidWebhook)
    assert "!!!!" not in str(caught.value)


@given(
    st.binary(min_size=1, max_size=64),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40),
    st.dictionaries(st.text(), st.text() | st.integers() | st.none(), max_size=5),
    st.integers(0, 2**40),
)
def test_it_agrees_with_the_library(key, message_id, data, flip):
    """Both accept what the library signed, and both refuse it with one bit of the body turned."""
    secret, at = "whsec_" + base64.b64encode(key).decode(), int(time.time())
    body = json.dumps({"type": "job.progress", "timestamp": "2027-01-15T08:00:00Z", "data": data}).encode()
    headers = signed(body, secret, at, message_id)
    Webhook(secret).verify(body, headers)
    assert verify_webhook(headers, body, secret).data == data
    turned = bytearray(body)
    turned[flip % len(body)] ^= 1  # it stays ASCII
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(bytes(turned), headers)
    with pytest.raises(InvalidWebhook):
        verify_webhook(headers, bytes(turned), secret)
