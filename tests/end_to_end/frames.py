"""HTTP/2 by hand, for peers that do what no library does: begin and never end, reset, keep silent.

Source: RFC 9113, "HTTP/2"; headers are literals without indexing (RFC 7541, 6.2.2).
"""

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator

from tests.end_to_end.raw import METHOD

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _WINDOW = 0, 1, 3, 4, 6, 8
_END_HEADERS, _ACK = 4, 1
_CANCEL = struct.pack("!I", 8)
_INITIAL_WINDOW = 4  # the setting of the window of each call
_FRAME_BYTES = 16384
_WINDOW_BYTES = 65535


def frame(kind: int, flags: int, stream: int, body: bytes = b"") -> bytes:
    """Returns a frame as it is on the wire."""
    return struct.pack("!I", len(body))[1:] + struct.pack("!BBI", kind, flags, stream) + body


def headers(path: str = METHOD) -> bytes:
    """Returns the header block of a call."""
    given = {
        ":method": "POST", ":scheme": "http", ":path": path, ":authority": "test",
        "te": "trailers", "content-type": "application/grpc",
    }  # fmt: skip
    return b"".join(
        b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
        for name, value in given.items()
    )


class Peer:
    """One connection to a server, which says what it likes on it and reads what comes back.

    ``ended`` are the calls that the server ended.  ``source`` is the address that it comes from,
    and ``window`` the bytes of each answer that it takes.
    """

    def __init__(self, address: str, source: str = "", window: int = _WINDOW_BYTES) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), source_address=(source, 0))
        self._next = 1
        self._windows: dict[int, int] = {0: _WINDOW_BYTES}
        self._initial = _WINDOW_BYTES
        self._changed = threading.Condition()
        self._sending = threading.Lock()  # a frame goes whole, whichever thread sends it
        self.ended: set[int] = set()
        self.is_closed = False
        own = struct.pack("!HI", _INITIAL_WINDOW, window)
        self._socket.sendall(_PREFACE + frame(_SETTINGS, 0, 0, own))
        threading.Thread(target=self._read, daemon=True).start()

    def begin(self, path: str = METHOD) -> int:
        """Begins a call with its headers, and returns its number."""
        with self._changed:
            stream, self._next = self._next, self._next + 2
            self._windows[stream] = self._initial
        self._send(frame(_HEADERS, _END_HEADERS, stream, headers(path)))
        return stream

    def write(self, data: bytes) -> None:
        """Sends anything."""
        self._send(data)

    def reset(self, stream: int) -> None:
        """Ends a call without a word."""
        self._send(frame(_RESET, 0, stream, _CANCEL))

    def send(self, stream: int, size: int, part: int) -> None:
        """Sends ``part`` bytes of a message that is said to have ``size``, as the windows let it.

        It returns early if the server ends the call.
        """
        self._data(stream, memoryview(b"\0" + struct.pack("!I", size) + bytes(part)))

    def message(self, stream: int, message: bytes) -> None:
        """Sends a whole message."""
        self._data(stream, memoryview(b"\0" + struct.pack("!I", len(message)) + message))

    def _data(self, stream: int, left: memoryview) -> None:
        while left:
            with self._changed:
                self._changed.wait_for(lambda: self._room(stream) or self._is_over(stream))
                if self._is_over(stream):
                    return
                taken = min(len(left), _FRAME_BYTES, self._room(stream))
                self._windows[0] -= taken
                self._windows[stream] -= taken
            self._send(frame(_DATA, 0, stream, bytes(left[:taken])))
            left = left[taken:]

    def close(self) -> None:
        """Closes the connection."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _room(self, stream: int) -> int:
        return max(0, min(self._windows[0], self._windows[stream]))

    def _is_over(self, stream: int) -> bool:
        return self.is_closed or stream in self.ended

    def _send(self, data: bytes) -> None:
        with contextlib.suppress(OSError), self._sending:
            self._socket.sendall(data)

    def _read(self) -> None:
        for kind, flags, stream, body in self._frames():
            with self._changed:
                self._take(kind, flags, stream, body)
                self._changed.notify_all()
        with self._changed:
            self.is_closed = True
            self._changed.notify_all()

    def _take(self, kind: int, flags: int, stream: int, body: bytes) -> None:
        if kind == _WINDOW:
            self._windows[stream] = self._windows.get(stream, 0) + struct.unpack("!I", body)[0]
        elif kind == _SETTINGS and not flags & _ACK:
            for at in range(0, len(body), 6):
                name, value = struct.unpack("!HI", body[at : at + 6])
                if name == _INITIAL_WINDOW:
                    for each in self._windows.keys() - {0}:
                        self._windows[each] += value - self._initial
                    self._initial = value
            self._send(frame(_SETTINGS, _ACK, 0))
        elif kind == _PING and not flags & _ACK:
            self._send(frame(_PING, _ACK, 0, body))
        elif kind == _RESET or (kind == _HEADERS and flags & 1):
            self.ended.add(stream)

    def _frames(self) -> Iterator[tuple[int, int, int, bytes]]:
        with contextlib.suppress(OSError, EOFError):
            while True:
                head = self._exactly(9)
                kind, flags, stream = struct.unpack("!BBI", head[3:])
                yield (
                    kind,
                    flags,
                    stream & 0x7FFFFFFF,
                    self._exactly(int.from_bytes(head[:3], "big")),
                )

    def _exactly(self, size: int) -> bytes:
        found = bytearray()
        while len(found) < size:
            data = self._socket.recv(size - len(found))
            if not data:
                raise EOFError
            found += data
        return bytes(found)
