"""Wrong addresses are found out before gRPC sees them."""

import errno

import pytest

from lossd.serving import addresses
from lossd.serving.addresses import Port, UnixSocket
from lossd.serving.config import Config, ConfigError
from tests.serving.no_ipv6 import take_ipv6_away

FORMS = r"must be host:port, \[IPv6 address\]:port, unix:/path or unix-abstract:name"
PORT = r"must have a port in \[0, 65535\]"


@pytest.mark.parametrize(
    ("address", "meant"),
    [
        ("127.0.0.1:50051", Port("127.0.0.1", 50051)),
        ("localhost:0", Port("localhost", 0)),
        ("my_host-1.example.:65535", Port("my_host-1.example.", 65535)),
        ("[::1]:0", Port("::1", 0)),
        ("[fe80::1%lo]:1", Port("fe80::1%lo", 1)),
        ("unix:/run/lossd.sock", UnixSocket("/run/lossd.sock")),
        ("unix:///run/lossd.sock", UnixSocket("/run/lossd.sock")),
        ("unix:here.sock", UnixSocket("here.sock")),
        ("unix:/run/a%20b", UnixSocket("/run/a b")),
        ("unix-abstract:lossd", UnixSocket("lossd", is_abstract=True)),
        ("unix:" + "x" * 107, UnixSocket("x" * 107)),
    ],
)
def test_an_address_means_a_port_or_a_socket(address: str, meant: Port | UnixSocket) -> None:
    assert addresses.parse(address) == meant
    Config(address=address)


@pytest.mark.parametrize(
    ("address", "rule"),
    [
        *[
            (address, FORMS)
            for address in (
                "", "50051", "localhost", "127.0.0.1", "[::1]", "::1", "::1:50051", ":50051",
                "http://127.0.0.1:50051", "https://host:1", "dns:///host:1", "tcp:host:1",
                "[127.0.0.1]:1", "[]:1", "[::1:1", "256.0.0.1:1", "127.1:1", "1:1", "a b:1",
                "-a:1", "a..b:1", "*:1", "user@host:1", "host/x:1", "ho\u0301st:1", "x" * 64 + ":1",
                "unix:", "unix://", "unix://run/x", "unix-abstract:", "unix:a%00b", "vsock:1:2",
                "unix:/run/", "unix:/\ud800",
            )
        ],
        *[
            (f"127.0.0.1:{port}", PORT)
            for port in ("", "99999", "65536", "-1", "+1", " 80", "80 ", "1e3", "0x50", "http", "٣")
        ],
        ("[::1]:99999", PORT),
        ("unix:/a?b", "must be written with %3F for \\? and %23 for # in a path"),
        ("unix:/a#b", "must be written with %3F for \\? and %23 for # in a path"),
        ("unix:/" + "x" * 107, "must have a path of at most 107 bytes"),
        ("unix:" + "é" * 54, "must have a path of at most 107 bytes"),
        ("unix-abstract:" + "x" * 108, "must have a path of at most 107 bytes"),
    ],
)  # fmt: skip
def test_what_is_no_address_is_told_the_rule(address: str, rule: str) -> None:
    with pytest.raises(ConfigError, match=f"^address {rule}, got ") as caught:
        Config(address=address)
    assert str(caught.value).endswith(f"got {address or 'none'}")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "[::1]", "::", "a.example"])
def test_a_host_may_be_a_name_or_an_ip_address(host: str) -> None:
    Config(metrics_host=host)


@pytest.mark.parametrize(
    "host", ["", "http://127.0.0.1", "127.0.0.1:9464", "[::1]:9464", "a b", "1.2.3", "[a]"]
)
def test_what_is_no_host_is_told_the_rule(host: str) -> None:
    with pytest.raises(
        ConfigError, match=r"^metrics_host must be a host name or an IP address, got"
    ):
        Config(metrics_host=host)


@pytest.mark.parametrize(
    ("address", "called", "without_ipv6"),
    [
        ("0.0.0.0:1", "127.0.0.1:1", "127.0.0.1:1"),
        ("[::]:1", "[::1]:1", "127.0.0.1:1"),
        ("[::1]:1", "[::1]:1", "[::1]:1"),
        ("localhost:1", "localhost:1", "localhost:1"),
        ("unix:/a", "unix:/a", "unix:/a"),
    ],
)
def test_a_server_that_listens_everywhere_is_called_on_the_loopback_that_there_is(
    address: str, called: str, without_ipv6: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if addresses.has_loopback_of_ipv6():
        assert addresses.reachable(address) == called
    take_ipv6_away(errno.EADDRNOTAVAIL, monkeypatch)
    assert addresses.reachable(address) == without_ipv6
