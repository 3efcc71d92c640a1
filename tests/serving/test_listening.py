"""gRPC takes compressed messages only where it bounds them."""

import grpc
import pytest

from lossd.serving.config import Config
from lossd.serving.rpc import listening


@pytest.mark.parametrize(
    ("version", "takes_compressed"),
    [
        ("1.66.2", False),
        ("1.83.0", False),
        ("1.84.0", True),
        ("1.84.0rc1", True),
        ("1.100.0", True),
        ("2.0.0", True),
    ],
)
def test_compressed_messages_are_taken_where_their_length_is_limited_while_they_grow(
    monkeypatch: pytest.MonkeyPatch, version: str, *, takes_compressed: bool
) -> None:
    monkeypatch.setattr(grpc, "__version__", version)
    names = dict(listening.options(Config(), 0))
    assert ("grpc.compression_enabled_algorithms_bitset" not in names) is takes_compressed
