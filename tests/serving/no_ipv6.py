"""A system that lacks IPv6."""

import errno
import os
import socket
from typing import Any

import pytest


def take_ipv6_away(fault: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the system lack IPv6: switched off, or not there at all, as the fault says."""
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
