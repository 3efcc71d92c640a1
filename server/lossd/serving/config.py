"""Everything the server can be told."""

import os
from dataclasses import dataclass

from lossd.backends.choose import BackendChoice

MEBIBYTE = 1 << 20


def usable_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The settings of one server.

    ``address`` is host:port or unix:/path, and port 0 picks a free one.  ``metrics_port`` is served
    on ``metrics_host``; 0 picks a free one, None serves no metrics.
    """

    address: str = "127.0.0.1:50051"
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = 9464
    backend: BackendChoice = BackendChoice.AUTO
    threads: int = 0  # 0: as many as there are cores
    message_size_bytes: int = 512 * MEBIBYTE
    concurrent_calls: int = 64
    grace_seconds: float = 10.0

    @property
    def compute_threads(self) -> int:
        """How many threads compute."""
        return self.threads or usable_cores()
