"""The guard around addresses that clients choose, on real sockets; only the name server is ours."""

import asyncio
import io
import ipaddress
import itertools
import socket
import ssl
import threading

import pytest
import trustme

from jobs.errors import FetchFailed, UploadTooLarge, UrlNotAllowed
from jobs.http.addresses import address_allowed, check_url, host_of
from jobs.http.guarded_fetch import fetch, post
from jobs.settings import Settings
from tests.servers.receiver import Reply, receiving

LOCAL = Settings(
    url_schemes="http,https",
    url_ports="1-65535",
    private_networks_allowed="127.0.0.0/8",
    fetch_timeout_seconds=10,
    webhook_timeout_seconds=10,
)
HASTY = LOCAL.model_copy(update={"fetch_timeout_seconds": 0.5, "webhook_timeout_seconds": 0.5})
DEFAULTS = Settings()


def fetched(url, settings=LOCAL, max_bytes=100_000, **more):
    into = io.BytesIO()
    asyncio.run(fetch(url, settings=settings, max_bytes=max_bytes, into=into, **more))
    return into.getvalue()


def posted(url, settings=LOCAL, **more):
    return asyncio.run(post(url, settings=settings, headers={"X-Test": "1"}, content=b"{}", **more))


class NameServer:
    """Answers with the next list of addresses each time; the last one for good."""

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []

    def __call__(self, host, port):
        self.asked.append(host)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.8.8.8", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254"),
        *("100.64.0.1", "100.100.100.200", "192.0.0.192", "198.18.0.1", "203.0.113.9", "224.0.0.1", "240.0.0.1"),
        *("255.255.255.255", "168.63.129.16", "::", "::1", "::7f00:1", "fe80::1", "fe80::1%eth0", "fc00::1"),
        *(
            "fd00:ec2::254",
            "fec0::1",
            "3fff::1",
            "3fff:fff:ffff::1",
            "ff02::1",
            "ff0e::1",
            "2001:db8::1",
            "2001::1",
            "100::1",
            "4000::1",
        ),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::808:808"),
        *("2002:7f00:1::1", "2002:a9fe:a9fe::"),
    ],
)
def test_what_is_not_public_is_refused(address):
    assert not address_allowed(ipaddress.ip_address(address), ())


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_what_is_public_is_allowed(address):
    assert address_allowed(ipaddress.ip_address(address), ())


@pytest.mark.parametrize(
    ("network", "inside", "outside"),
    [
        ("10.1.0.0/16", "10.1.2.3", "10.2.0.1"),
        ("127.0.0.0/8", "::ffff:127.0.0.1", "::1"),
        ("fd00::/8", "fd00::1", "fe80::1"),
    ],
)
def test_listed_networks_are_allowed_and_no_others(network, inside, outside):
    assert address_allowed(ipaddress.ip_address(inside), (network,))
    assert not address_allowed(ipaddress.ip_address(outside), (network,))


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("http://example.com/x", "https"),
        ("ftp://example.com/x", "https"),
        ("file:///etc/passwd", "https"),
        ("//example.com/x", "https"),
        ("hook", "https"),
        ("https://example.com:22/", "22"),
        ("https://example.com:99999/", "no URL"),
        ("https://[::1/", "no URL"),
        ("https:///x", "host"),
        ("https://user:secret@example.com/", "password"),
        ("https://user@example.com/", "password"),
        ("https://example.com/\r\nX: y", "percent"),
        ("https://example.com\\@127.0.0.1/", "percent"),
        ("https://exämple.com/", "punycode"),
        ("https://example.com/" + "x" * 2048, "2048"),
        ("https://127.0.0.1/", "not public"),
        ("https://[::1]/", "not public"),
        ("https://[::ffff:169.254.169.254]/", "not public"),
        ("https://169.254.169.254/latest/meta-data", "not public"),
        ("https://2130706433/", "not public"),
        ("https://0x7f.1/", "not public"),
        ("https://0177.0.0.1/", "not public"),
        ("https://localhost/", "not public"),
        ("https://LOCALHOST./", "not public"),
        ("https://a.localhost/", "not public"),
        ("https://8.8.8.8./", "final dot"),
        ("https://0x7f.1./", "final dot"),
        ("https://2130706433./", "final dot"),
        ("https://[2001:4860:4860::8888%25eth0]/", "zone"),
        ("https://[fe80::1%eth0]/", "zone"),
        ("https://ex%61mple.com/", "percent-encoded"),
        ("iVBORw0KGgo" * 10, "data:image/png;base64,"),
        ("/9j/4AAQSkZJRgABAQ" * 500 + "==", "data:image/png;base64,"),
    ],
)
def test_urls_are_refused_when_they_are_submitted(url, word):
    with pytest.raises(UrlNotAllowed, match=word):
        check_url(url, DEFAULTS)
    with pytest.raises(UrlNotAllowed):
        fetched(url, DEFAULTS, resolve=NameServer(["127.0.0.1"]))


@pytest.mark.parametrize(
    "url", ["https://example.com/x?y=z#f", "https://8.8.8.8:8443/", "https://example.com:443", "https://cafe2.de./x"]
)
def test_good_urls_pass_without_a_name_server(url):
    check_url(url, DEFAULTS)


def test_settings_open_what_they_name():
    for url in ("http://127.0.0.1:3000/", "http://localhost:1/"):
        check_url(url, LOCAL)
    with pytest.raises(UrlNotAllowed, match="public"):
        check_url("http://10.0.0.1/", LOCAL)


def test_host_of():
    assert host_of("https://Example.com/x") == "example.com:443"
    assert host_of("http://[::1]:8080/") == "::1:8080"
    assert host_of("http://[") == ""


def test_a_file_is_fetched():
    with receiving(Reply(200, body=b"picture" * 1000)) as server:
        assert fetched(server.url) == b"picture" * 1000
        (request,) = server.seen
    assert (request.method, request.path) == ("GET", "/hook?tenant=7")
    assert request.headers["host"] == f"127.0.0.1:{server.port}"
    assert request.headers["user-agent"].startswith("lama-refinery/")


def test_proxies_and_credentials_of_the_environment_are_not_used(monkeypatch, tmp_path):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with receiving(Reply(200, body=b"x")) as server:
        assert fetched(server.url) == b"x"
        assert "authorization" not in server.seen[0].headers


def test_a_private_address_is_never_connected_to():
    settings = LOCAL.model_copy(update={"private_networks_allowed": ()})
    with receiving() as server:
        for send in (fetched, posted):
            with pytest.raises(UrlNotAllowed, match="not public") as refused:
                send(f"http://inside.example:{server.port}/", settings, resolve=NameServer(["127.0.0.1"]))
            assert "127.0.0.1" not in str(refused.value)
        assert server.seen == []


@pytest.mark.parametrize("answer", [["127.0.0.1", "10.0.0.1"], ["10.0.0.1", "127.0.0.1"], ["127.0.0.1", "nonsense"]])
def test_one_bad_address_of_a_name_is_enough(answer):
    with receiving() as server:
        with pytest.raises(UrlNotAllowed):
            posted(f"http://mixed.example:{server.port}/", resolve=NameServer(answer))
        assert server.seen == []


def test_a_name_that_changes_its_address_after_the_check_gains_nothing():
    """DNS rebinding: only the first answer counts, and the connection goes there although the name does not exist."""
    names = NameServer(["127.0.0.1"], ["10.0.0.1"])
    with receiving(Reply(200)) as server:
        assert posted(f"http://rebind.example:{server.port}/hook", resolve=names).status == 200
        assert names.asked == ["rebind.example"]
        assert server.seen[0].headers["host"] == f"rebind.example:{server.port}"
    with pytest.raises(UrlNotAllowed):
        posted("http://rebind.example/", resolve=names)


def test_a_second_address_is_tried():
    with receiving(Reply(200)) as server:
        names = NameServer(["127.0.0.9", "127.0.0.1"])  # nobody listens on the first
        assert posted(f"http://two.example:{server.port}/", resolve=names).status == 200


def test_a_second_address_is_tried_in_time_when_the_first_says_nothing():
    """A listener whose queue is full lets further connections wait."""
    with receiving(Reply(200)) as server, socket.create_server(("127.0.0.9", server.port), backlog=0):
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(("127.0.0.9", server.port))
        names = NameServer(["127.0.0.9", "127.0.0.1"])
        patient = LOCAL.model_copy(update={"webhook_timeout_seconds": 4.0})
        assert posted(f"http://two.example:{server.port}/", patient, resolve=names).status == 200
        for each in waiting:
            each.close()


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


def server_context(authority, name, seen=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    if seen is not None:
        context.sni_callback = lambda _, asked, __: seen.append(asked)
    return context


@pytest.fixture
def trusting(authority):
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def test_tls_is_for_the_name_and_goes_to_the_checked_address(authority, trusting):
    asked, names = [], NameServer(["127.0.0.1"])
    with receiving(Reply(200), server_context(authority, "hooks.example", asked)) as server:
        url = f"https://hooks.example:{server.port}/"
        assert posted(url, resolve=names, ssl_context=trusting).status == 200
        assert asked == ["hooks.example"]
        assert server.seen[0].headers["host"] == f"hooks.example:{server.port}"


def test_certificates_are_verified(authority, trusting):
    names = NameServer(["127.0.0.1"])
    with receiving(Reply(200), server_context(authority, "other.example")) as server:
        with pytest.raises(FetchFailed, match="certificate"):
            posted(f"https://hooks.example:{server.port}/", resolve=names, ssl_context=trusting)
        with pytest.raises(FetchFailed, match="certificate"):
            posted(f"https://other.example:{server.port}/", resolve=names)  # an authority that we do not know
        assert server.seen == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(status):
    with receiving() as inside, receiving(Reply(status, {"Location": inside.url})) as server:
        assert posted(server.url).status == status
        with pytest.raises(FetchFailed, match="redirect"):
            fetched(server.url)
        assert inside.seen == []


def test_other_answers_are_no_image():
    with receiving(Reply(404, body=b"the body stays here")) as server:
        with pytest.raises(FetchFailed, match="404") as failed:
            fetched(server.url)
        assert "body" not in str(failed.value)


@pytest.mark.parametrize("body", [b"x" * 1001, itertools.repeat(b"x" * 100)], ids=["declared", "endless"])
def test_more_than_allowed_is_cut_off(body):
    with receiving(Reply(200, body=body)) as server, pytest.raises(UploadTooLarge):
        fetched(server.url, max_bytes=1000)
    with receiving(Reply(200, body=b"x" * 1000)) as server:
        assert len(fetched(server.url, max_bytes=1000)) == 1000


def test_a_server_that_drips_meets_the_deadline():
    stop = threading.Event()
    drip = (b"x" for _ in iter(lambda: stop.wait(0.05), True))
    with receiving(Reply(200, body=drip)) as server:
        with pytest.raises(FetchFailed, match="seconds"):
            fetched(server.url, HASTY)
        stop.set()


def test_a_server_that_says_nothing_meets_the_deadline():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for send in (fetched, posted):
            with pytest.raises(FetchFailed, match="seconds"):
                send(f"http://127.0.0.1:{silent.getsockname()[1]}/", HASTY)
        with pytest.raises(FetchFailed, match="seconds"):
            posted(f"https://127.0.0.1:{silent.getsockname()[1]}/", HASTY)


def test_what_is_no_http_is_an_error():
    with socket.create_server(("127.0.0.1", 0)) as server:

        def talk():
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"SSH-2.0-OpenSSH_9.9\r\n\r\n")

        thread = threading.Thread(target=talk)
        thread.start()
        with pytest.raises(FetchFailed, match="HTTP"):
            posted(f"http://127.0.0.1:{server.getsockname()[1]}/")
        thread.join()
        port = server.getsockname()[1]
    with pytest.raises(FetchFailed, match="does not accept"):
        posted(f"http://127.0.0.1:{port}/")


def test_a_name_that_does_not_resolve():
    def nothing(host, port):
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    with pytest.raises(FetchFailed, match="resolved"):
        posted("http://nowhere.example/", resolve=nothing)
    with pytest.raises(FetchFailed, match="no address"):
        posted("http://nowhere.example/", resolve=lambda host, port: [])


def test_of_a_webhooks_answer_a_printable_prefix_is_kept():
    with receiving(Reply(500, {"Retry-After": "7"}, itertools.repeat(b"e\x1b\n\xff" * 30))) as server:
        answer = posted(server.url)
    assert (answer.status, answer.retry_after) == (500, "7")
    assert 0 < len(answer.prefix) <= 200
    assert answer.prefix.isprintable()


def test_a_status_counts_although_the_body_never_comes():
    with receiving(lambda n, r: Reply(200, {"Content-Length": "10"}, (b"" for _ in iter(server.hang, 1)))) as server:
        for settings in (HASTY, LOCAL.model_copy(update={"webhook_timeout_seconds": 60})):
            assert posted(server.url, settings).status == 200  # long before the deadline
        server.closing.set()


def test_a_name_server_that_says_nothing_meets_the_deadline():
    stop = threading.Event()
    with pytest.raises(FetchFailed, match="seconds"):
        posted("http://slow.example/", HASTY, resolve=lambda host, port: stop.wait(60))
    stop.set()
