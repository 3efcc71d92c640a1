"""Where clients may be told to connect to, and what they say of the rest."""

import re
import socket
from pathlib import Path
from typing import Any

import pytest

from lossd.client import InvalidRequestError
from lossd.client.target import checked_target

GOOD = [
    "localhost:50051",
    "lossd:1",
    "my_service.training.svc.cluster.local.:65535",
    "127.0.0.1:50051",
    "[::1]:50051",
    "[fe80::1%25eth0]:50051",
    "dns:localhost:50051",
    "dns:///lossd:50051",
    "DNS:///lossd:50051",
    "dns:///[::1]:50051",
    "dns://8.8.8.8:53/lossd:50051",
    "ipv4:127.0.0.1:50051",
    "ipv4:10.0.0.1:50051,10.0.0.2:50051",
    "ipv4:///127.0.0.1:50051",
    "ipv6:[::1]:50051",
    "ipv6:%5B::1%5D:50051",
    "unix:/run/lossd/lossd.sock",
    "unix:lossd.sock",
    "unix:/" + "%20" * 100,
    "unix:/a%3Fb",
    "[::1%lo]:50051",
    "[::1%25lo]:50051",
    "worker.1:50051",
    "unix:///run/lossd/lossd.sock",
    "unix-abstract:lossd",
    "vsock:2:50051",
    "xds:///lossd",
    "google-c2p:///lossd",
    "passthrough:///10.0.0.1:50051",
]
BAD = [
    "",
    " ",
    ":50051",
    "50051",
    "localhost",
    "127.0.0.1",
    "localhost:",
    "localhost:0",
    "localhost:65536",
    "localhost:99999",
    "localhost:-1",
    "localhost:+1",
    "localhost:http",
    "localhost:50051 ",
    " localhost:50051",
    "localhost:50051/",
    "localhost:50051/path",
    "local host:50051",
    "user@localhost:50051",
    "localhost:50051,localhost:50052",
    "localhost:\u0661",
    "::1",
    "::1:50051",
    "[::1]",
    "[]:50051",
    "[::1:50051",
    "http://localhost:50051",
    "https://localhost:50051",
    "grpc://localhost:50051",
    "tcp://localhost:50051",
    "HTTP://localhost:50051",
    "http://localhost",
    "dns:",
    "dns:///",
    "dns:///lossd",
    "dns:///lossd:99999",
    "dns:///http://lossd:50051",
    "dns://8.8.8.8",
    "ipv4:",
    "ipv4:127.0.0.1",
    "ipv4:127.0.0.1:50051,",
    "ipv6:::1",
    "unix:",
    "unix://",
    "unix://relative.sock",
    "unix:///",
    "unix:/run/",
    "unix:/a\0b",
    "unix:/a%00b",
    "unix:/a?b",
    "unix:/a#b",
    "unix:/\ud800",
    "a\0b:50051",
    "\ud800:50051",
    "256.1.1.1:50051",
    "127.1:50051",
    "[zz]:50051",
    "ipv4:localhost:50051",
    "ipv4:[::1]:50051",
    "ipv6:[zz]:50051",
    "ipv6:127.0.0.1:50051",
    "unix:/" + "x" * 107,
    "unix-abstract:",
    "xds:///",
    None,
    50051,
    0,
    b"localhost:50051",
    ("localhost", 50051),
    ["localhost:50051"],
    1.5,
    Path("/run/lossd.sock"),
]


@pytest.mark.parametrize("target", ["unix:////run/l.sock", "unix://///run/l.sock"])
def test_slashes_beyond_the_third_are_no_host(target: str) -> None:
    assert checked_target(target) == "unix:/run/l.sock"


@pytest.mark.parametrize("target", GOOD)
def test_targets_of_grpc_are_taken_as_they_are(target: str) -> None:
    assert checked_target(target) == target


@pytest.mark.parametrize("target", BAD, ids=lambda target: repr(target)[:40])
def test_what_is_no_target_is_refused_at_once_with_its_value(target: Any, connect: Any) -> None:
    rule = r"^target must be host:port, .* with a port in \[1, 65535\], got "
    with pytest.raises(InvalidRequestError, match=rule) as caught:
        connect(target)
    assert re.escape(repr(target)[:40]) in re.escape(str(caught.value))
    assert caught.value.field == "target"


def test_a_path_may_be_as_long_as_a_sockets(tmp_path: Path, serve: Any, connect: Any) -> None:
    folder = f"unix:{tmp_path}/"
    longest = folder + "x" * (107 + len("unix:") - len(folder))
    with connect(serve(longest).address) as client:
        assert client.server_info().version == "1.2.3"
    with pytest.raises(InvalidRequestError, match="target must be"):
        connect(longest + "x")


@pytest.mark.parametrize(
    "form",
    ["127.0.0.1:{}", "localhost:{}", "dns:///localhost:{}", "dns:localhost:{}",
     "ipv4:127.0.0.1:{}", "ipv4:///127.0.0.1:{}"],
)  # fmt: skip
def test_targets_reach_their_server(form: str, serve: Any, connect: Any) -> None:
    with connect(form.format(serve().port)) as client:
        assert client.server_info().version == "1.2.3"


@pytest.mark.parametrize("form", ["[::1]:{}", "ipv6:[::1]:{}", "ipv6:%5B::1%5D:{}"])
def test_targets_of_ipv6_reach_their_server(form: str, serve: Any, connect: Any) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("there is no IPv6 on this machine")
    with connect(form.format(serve("[::1]:0").port)) as client:
        assert client.server_info().version == "1.2.3"


def test_a_target_is_not_looked_at_beside_a_channel(serve: Any, flavour: Any, connect: Any) -> None:
    with (
        flavour.channel(serve().address) as channel,
        connect("not looked at", channel=channel) as client,
    ):
        assert client.server_info().version == "1.2.3"
