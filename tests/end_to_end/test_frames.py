"""Whatever frames of HTTP/2 a peer sends, others are served, and what it holds is let go."""

import struct
from contextlib import closing
from typing import Any

import pytest

from lossd.client import LossClient
from lossd.v1 import SquaredError
from tests.end_to_end.conftest import Process, metric
from tests.end_to_end.frames import Peer, frame, headers
from tests.end_to_end.test_load import wait_for

DATA, HEADERS, PRIORITY, RESET, SETTINGS, PING, GOAWAY, WINDOW, CONTINUATION = (
    0, 1, 2, 3, 4, 6, 7, 8, 9,
)  # fmt: skip
END_HEADERS, PADDED = 4, 8
MOST = struct.pack("!I", (1 << 31) - 1)


def begun(stream: int = 1, more: bytes = b"") -> bytes:
    return frame(HEADERS, END_HEADERS, stream, headers() + more)


def begun_without_end(more: bytes = b"") -> bytes:
    return frame(HEADERS, 0, 1, headers() + more)


PAIR = b"\0\x01a\x01b"
KEPT = b"\x40\x03x-a\x7f\x81\x1e" + b"v" * 4000  # goes into the table, as its entry 62
NAMED = b"\xbe"  # that entry once more
SENT: dict[str, bytes] = {
    "half a header": begun_without_end(),
    "a header that goes on": begun_without_end() + frame(CONTINUATION, 0, 1, PAIR * 3000) * 50,
    "a header that goes on with nothing": begun_without_end() + frame(CONTINUATION, 0, 1) * 5000,
    "a header of a value of a gigabyte": begun_without_end(b"\0\x03x-a\x7f\x81\xff\xff\xff\x03")
    + frame(CONTINUATION, 0, 1, bytes(16384)) * 50,
    "another frame within a header": begun_without_end() + frame(PING, 0, 0, bytes(8)),
    "thousands of pairs": begun(more=PAIR * 3000),
    "one entry named again and again": begun(more=KEPT) + begun(3, NAMED * 10_000),
    "a table of a gigabyte": frame(HEADERS, END_HEADERS, 1, b"\x3f\xe1\xff\xff\xff\x03"),
    "an entry that is not there": begun(more=b"\xff\xff\xff\x7f"),
    "priorities": frame(PRIORITY, 0, 1, bytes(5)) * 5000,
    "settings": frame(SETTINGS, 0, 0) * 5000,
    "windows of all sizes": begun()
    + b"".join(
        frame(SETTINGS, 0, 0, struct.pack("!HI", 4, 0x7FFFFFFF * (i % 2))) for i in range(99)
    ),
    "pings": frame(PING, 0, 0, bytes(8)) * 5000,
    "a window beyond 31 bits": frame(WINDOW, 0, 0, MOST) * 3,
    "a window of a call beyond 31 bits": begun() + frame(WINDOW, 0, 1, MOST) * 3,
    "a window of nothing": begun() + frame(WINDOW, 0, 1, bytes(4)),
    "nothing but padding": begun() + frame(DATA, PADDED, 1, b"\xff" + bytes(255)) * 5000,
    "padding beyond its frame": begun() + frame(DATA, PADDED, 1, b"\xff" + bytes(9)),
    "nothing": begun() + frame(DATA, 0, 1) * 5000,
    "goodbyes": begun() + frame(GOAWAY, 0, 0, bytes(8) + b"why" * 100) * 500,
    "an end of what never began": frame(RESET, 0, 99, bytes(4)) * 500,
    "kinds that nobody knows": frame(77, 255, 1, bytes(50)) * 5000,
}


@pytest.mark.parametrize("name", SENT)
def test_others_are_served_and_nothing_stays(server: Process, client: Any, name: str) -> None:
    with closing(Peer(server.address)) as peer, LossClient(server.address) as other:
        peer.write(SENT[name])
        for each in (client, other):
            assert each.compute(SquaredError(), predictions=[2.0], targets=[0.0]).loss == 4
    wait_for(server, "lossd_inflight_requests", 0)
    assert server.process.poll() is None
    assert metric(server, "lossd_ready") == 1
