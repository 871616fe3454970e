"""A store over TLS: jobs and messages go to a server that shows the right certificate, and to no other."""

import ssl

import pytest
import redis
import trustme

from jobs import broker
from jobs.settings import Settings
from jobs.store.connection import connect
from tests.servers.proxy import Proxy

JOB = "0" * 32


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """A certificate authority, and the file that has its certificate."""
    made, path = trustme.CA(), tmp_path_factory.mktemp("tls") / "ca.pem"
    made.cert_pem.write_to_path(path)
    return made, path


@pytest.fixture
def server(valkey_url, authority, request):
    """A Valkey over TLS, with a certificate for the parameter, 127.0.0.1 if there is none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority[0].issue_cert(getattr(request, "param", "127.0.0.1")).configure_cert(context)
    with Proxy(valkey_url, context) as made:
        yield made.url


def tried(act):
    """Whether it went well, False when the certificate was refused; another error as it is."""
    try:
        act()
    except (redis.ConnectionError, broker.BrokerUnreachable) as error:
        return False if "CERTIFICATE_VERIFY_FAILED" in str(error) else str(error)
    return True


def reaches(settings):
    """Whether the store and the queue are reached."""
    with connect(settings) as client, broker.make_app(settings) as app:
        return tried(client.ping), tried(lambda: broker.send(app, JOB))


def test_an_unknown_authority_is_refused(settings, server):
    assert reaches(settings.model_copy(update={"redis_url": server})) == (False, False)


@pytest.mark.parametrize("server", ["elsewhere.example"], indirect=True)
@pytest.mark.parametrize(("wish", "taken"), [("", False), ("&ssl_check_hostname=false", True)])
def test_another_hosts_certificate_is_refused_unless_the_url_says_otherwise(settings, server, authority, wish, taken):
    url = f"{server}?ssl_ca_certs={authority[1]}{wish}"
    assert reaches(settings.model_copy(update={"redis_url": url})) == (taken, taken)


def test_the_right_one_is_taken(settings, service, server, authority):
    chosen = settings.model_copy(update={"redis_url": f"{server}/0?ssl_ca_certs={authority[1]}"})
    assert reaches(chosen) == (True, True)
    assert broker.waiting_ids(service.redis) == {JOB}


def test_nothing_is_checked_where_the_url_says_so(settings, server):
    assert reaches(settings.model_copy(update={"redis_url": f"{server}?ssl_cert_reqs=none"})) == (True, True)


def test_without_tls_there_is_nothing_to_set():
    assert broker.make_app(Settings(redis_url="redis://h:1/2")).conf.broker_use_ssl is None
