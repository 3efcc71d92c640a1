"""Has gRPC leave forks of this process alone, where it would do harm.

gRPC brings its threads to rest before a fork and makes them anew in the child.  With a server or
an open stream at work there, that ended some children and had others wait for ever.  It does
nothing as long as another thread is inside of it: so one waits there, for what never comes.
"""

import contextlib
import os
import sys
import threading
from collections.abc import Iterator

from grpc._cython import cygrpc

from lossd.client.forks import turns


@contextlib.contextmanager
def parting(what: str) -> Iterator[None]:
    """Has forks call nobody while something is open, and gRPC not touch them; see ``Turns``."""
    with turns().parting(what), _untouched():
        yield


@contextlib.contextmanager
def _untouched() -> Iterator[None]:
    queue, owner = cygrpc.CompletionQueue(), os.getpid()
    waiting = threading.Thread(target=queue.poll, name="lossd-forks", daemon=True)
    waiting.start()
    try:
        yield
    finally:
        if os.getpid() == owner and not sys.is_finalizing():
            queue.shutdown()
            waiting.join()
