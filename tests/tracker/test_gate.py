"""Who may knock: a page of another site may not, nor may a name that was rebound to this server."""

import pytest

from stepwell_tracker.config import Settings
from stepwell_tracker.errors import BadRequest
from stepwell_tracker.gate import AllowedHosts, host_name


def allows(hosts: AllowedHosts, host: str) -> bool:
    try:
        hosts.check(host.encode())
    except BadRequest:
        return False
    return True


LOCAL = AllowedHosts(Settings())
OPEN = AllowedHosts(Settings(host="0.0.0.0", allowed_hosts=("Tracker.example.org", "*.lab.test")))


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.0.0.1:7837", "localhost:1", "LOCALHOST", "[::1]:7837", "[::1]", "127.1.2.3"],
)
def test_loopback_names_are_this_server(host):
    assert allows(LOCAL, host)
    assert allows(OPEN, host)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:7837",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "192.168.0.7",
        "",
        ":7837",
        "127.0.0.1:",
        "127.0.0.1:80:80",
        "127.0.0.1:x",
        "127.0.0.1@evil.example",
        "localhost/",
        "[::1",
        "[::1]x",
        "2130706433",
        "tracker.example.org",
    ],
)
def test_other_names_are_forged(host):
    assert not allows(LOCAL, host)


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("tracker.example.org", True),
        ("TRACKER.example.org:443", True),
        ("a.lab.test", True),
        ("a.b.lab.test", True),
        ("lab.test", False),
        ("notlab.test", False),
        ("evil.example", False),
        ("192.168.0.7:7837", True),
        ("[fe80::1]:7837", True),
    ],
)
def test_beyond_loopback_literals_and_listed_names_count(host, allowed):
    assert allows(OPEN, host) is allowed


def test_the_bound_name_is_a_name_of_the_server():
    assert allows(AllowedHosts(Settings(host="trainbox")), "trainbox:7837")


def test_a_star_allows_every_name():
    assert allows(AllowedHosts(Settings(allowed_hosts=("*",))), "any.example")


@pytest.mark.parametrize(
    ("origin", "host", "same"),
    [
        ("http://127.0.0.1:7837", "127.0.0.1:7837", True),
        ("http://localhost:7837", "localhost:7837", True),
        ("http://localhost:3000", "localhost:7837", False),
        ("http://127.0.0.1:7837", "localhost:7837", False),
        ("https://evil.example", "127.0.0.1:7837", False),
        ("null", "127.0.0.1:7837", False),
        ("file://", "127.0.0.1:7837", False),
        ("", "127.0.0.1:7837", False),
        ("http://", "127.0.0.1:7837", False),
        ("https://tracker.example.org", "127.0.0.1:7837", True),
        ("https://tracker.example.org.evil.example", "127.0.0.1:7837", False),
    ],
)
def test_a_page_is_ours_by_its_origin(origin, host, same):
    assert OPEN.same_site(origin.encode(), host.encode()) is same


def test_a_star_for_hosts_is_none_for_origins():
    hosts = AllowedHosts(Settings(allowed_hosts=("*",)))
    assert not hosts.same_site(b"https://evil.example", b"tracker.example.org")


def test_names_of_hosts():
    assert host_name(b"A.example:80") == "a.example"
    assert host_name(b"[::1]:80") == "::1"
    assert host_name(b"a:80:80") is None
