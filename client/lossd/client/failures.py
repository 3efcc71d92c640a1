"""Reads what a call failed with, for connections of threads and of asyncio."""

from typing import Any

import grpc

from lossd.client.errors import LossdError, UnavailableError, from_rpc_error, is_nobody
from lossd.client.moving import AsyncMoving, Moving
from lossd.client.security import explained
from lossd.client.sharing import Sharing


def noticed(error: grpc.RpcError, sharing: Sharing, channel: Any) -> LossdError:
    """Returns our error for gRPC's, of which what is shared and the channel take notice."""
    found = explained(from_rpc_error(error))
    if isinstance(found, UnavailableError):
        sharing.lose_server()
    if is_nobody(found) and isinstance(channel, Moving | AsyncMoving):
        channel.look_again()
    return found
