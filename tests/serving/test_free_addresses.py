"""Occupied addresses are found out before gRPC sees them."""

import errno
import os
import socket
from pathlib import Path

import pytest

from lossd.serving import app, free_addresses
from lossd.serving.config import Config
from lossd.serving.free_addresses import AddressError
from tests.serving.no_ipv6 import take_ipv6_away


def refused(address: str) -> str:
    with pytest.raises(AddressError) as caught:
        free_addresses.check_free(address)
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
    free_addresses.check_free(address)


def test_a_name_on_which_somebody_listens_is_refused(tmp_path: Path) -> None:
    name = f"lossd-test{tmp_path}"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(f"\0{name}")
        other.listen()
        assert "must be free" in refused(f"unix-abstract:{name}")
    free_addresses.check_free(f"unix-abstract:{name}")


@pytest.mark.parametrize("backlog", [0, 16])
def test_a_socket_is_refused_while_somebody_listens(tmp_path: Path, backlog: int) -> None:
    path = tmp_path / "lossd.sock"
    free_addresses.check_free(f"unix:{path}")
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
    free_addresses.check_free(f"unix:{path}")  # left behind


def test_a_place_for_a_socket_is_told_what_is_wrong_with_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    assert "a file that is no socket" in refused(f"unix:{tmp_path}/file")
    assert "a file that is no socket" in refused(f"unix:{tmp_path}")
    assert "in a directory that exists" in refused(f"unix:{tmp_path}/none/lossd.sock")
    assert "in a directory that exists" in refused(f"unix:{tmp_path}/file/lossd.sock")
    if os.geteuid():
        tmp_path.chmod(0o500)
        assert "that may be written" in refused(f"unix:{tmp_path}/lossd.sock")


FAULTS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


@pytest.mark.parametrize("fault", FAULTS, ids=errno.errorcode.__getitem__)
def test_an_address_of_version_6_is_refused_where_there_is_none(
    fault: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_ipv6_away(fault, monkeypatch)
    for address in ("[::]:0", "[::1]:0"):
        assert "must be one of this machine" in refused(address)
    both = [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 0, 0, 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both)
    free_addresses.check_free("localhost:0")


@pytest.mark.parametrize("fault", FAULTS, ids=errno.errorcode.__getitem__)
def test_a_host_of_pages_of_version_6_is_refused_where_there_is_none(
    fault: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_ipv6_away(fault, monkeypatch)
    with pytest.raises(AddressError, match=r"^metrics_host must be one of this machine, got ::1"):
        app.start(Config(address="127.0.0.1:0", metrics_host="::1", metrics_port=0, max_calls=1))
