"""Wrong and occupied addresses are found out before gRPC sees them."""

import errno
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from lossd.serving import addresses, app
from lossd.serving.addresses import AddressError, Port, UnixSocket
from lossd.serving.config import Config, ConfigError

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


def refused(address: str) -> str:
    with pytest.raises(AddressError) as caught:
        addresses.check_free(address)
    assert address.rpartition(":")[0] in str(caught.value)
    return str(caught.value)


def test_a_name_that_nobody_knows_is_refused() -> None:
    assert "must name a host that is known" in refused("nobody.invalid:0")


def test_an_ip_address_of_another_machine_is_refused() -> None:
    assert "must be one of this machine" in refused("192.0.2.1:0")  # of documentation


def test_a_port_on_which_somebody_listens_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        assert "must be free" in refused(address)
    addresses.check_free(address)


def test_a_name_on_which_somebody_listens_is_refused(tmp_path: Path) -> None:
    name = f"lossd-test{tmp_path}"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(f"\0{name}")
        other.listen()
        assert "must be free" in refused(f"unix-abstract:{name}")
    addresses.check_free(f"unix-abstract:{name}")


@pytest.mark.parametrize("backlog", [0, 16])
def test_a_socket_is_refused_while_somebody_listens(tmp_path: Path, backlog: int) -> None:
    path = tmp_path / "lossd.sock"
    addresses.check_free(f"unix:{path}")
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen(backlog)
        callers = [socket.socket(socket.AF_UNIX) for _ in range(3)]
        for caller in callers:  # with no backlog the later ones find it full
            caller.settimeout(0)
            caller.connect_ex(str(path))
        assert "another server listens there" in refused(f"unix:{path}")
        for caller in callers:
            caller.close()
    addresses.check_free(f"unix:{path}")  # left behind


def test_a_place_for_a_socket_is_told_what_is_wrong_with_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    assert "a file that is no socket" in refused(f"unix:{tmp_path}/file")
    assert "a file that is no socket" in refused(f"unix:{tmp_path}")
    assert "in a directory that exists" in refused(f"unix:{tmp_path}/none/lossd.sock")
    assert "in a directory that exists" in refused(f"unix:{tmp_path}/file/lossd.sock")
    if os.geteuid():
        tmp_path.chmod(0o500)
        assert "that may be written" in refused(f"unix:{tmp_path}/lossd.sock")


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
    without(errno.EADDRNOTAVAIL, monkeypatch)
    assert addresses.reachable(address) == without_ipv6


def without(fault: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the system lack IPv6: switched off, or not there at all."""
    usual = socket.socket

    class Lacking(usual):  # type: ignore[valid-type, misc]  # made at run time
        def __init__(self, family: int = socket.AF_INET, *others: Any) -> None:
            if family == socket.AF_INET6 and fault == errno.EAFNOSUPPORT:
                raise OSError(fault, os.strerror(fault))
            super().__init__(family, *others)

        def bind(self, name: Any) -> None:
            if self.family == socket.AF_INET6:
                raise OSError(fault, os.strerror(fault))
            super().bind(name)

    monkeypatch.setattr(socket, "socket", Lacking)


FAULTS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


@pytest.mark.parametrize("fault", FAULTS, ids=errno.errorcode.__getitem__)
def test_an_address_of_version_6_is_refused_where_there_is_none(
    fault: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(fault, monkeypatch)
    for address in ("[::]:0", "[::1]:0"):
        assert "must be one of this machine" in refused(address)
    both = [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 0, 0, 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both)
    addresses.check_free("localhost:0")


@pytest.mark.parametrize("fault", FAULTS, ids=errno.errorcode.__getitem__)
def test_a_host_of_pages_of_version_6_is_refused_where_there_is_none(
    fault: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(fault, monkeypatch)
    with pytest.raises(AddressError, match=r"^metrics_host must be one of this machine, got ::1"):
        app.start(Config(address="127.0.0.1:0", metrics_host="::1", metrics_port=0, max_calls=1))
