"""A server in this process, for tests and notebooks: the same code answers as anywhere else."""

import atexit
import contextlib
import importlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from lossd.client.errors import InvalidRequestError
from lossd.client.forks import turns
from lossd.client.reaching import client_of
from lossd.client.sync import LossClient
from lossd.naming import guess


@contextlib.contextmanager
def local(*, timeout: float | None = None, **settings: Any) -> Iterator[LossClient]:
    """Yields a client of a server that runs in this process until the client is left.

        with local() as client:
            client.compute(CrossEntropy(), logits, labels)

    Replies have the bits of a server in a process of its own.  The server listens on a socket in a
    directory that only this user can enter, and keeps the memory that calls have freed for the
    next ones; nothing here suits production, where ``lossd serve`` runs.  A fork leaves the server
    to its parent and is refused calls: workers that call are to be started with spawn or
    forkserver.

    Args:
        timeout: Seconds that a call may take; None for the client's default.
        settings: Settings of the server by name, as in ``lossd serve --help`` with underscores,
            such as ``backend="numpy"`` and ``threads=2``; but no ``shm_dir``, since a process
            does not see the locks of its own by which memory is shared.

    Raises:
        InvalidRequestError: if the server is not installed (``pip install '.[server]'``),
            there is no setting of a name, or the server cannot start with a value.
    """
    if settings.get("shm_dir"):
        raise InvalidRequestError(
            "shm_dir must be left out, since a server shares no memory with a client in its own "
            f"process, got {settings['shm_dir']!r:.64}",
            field="shm_dir",
        )
    with local_server(**settings) as address, client_of(address, timeout) as client:
        yield client


@contextlib.contextmanager
def local_server(**settings: Any) -> Iterator[str]:
    """Yields the address of a server that runs in this process, as ``local`` does.

    It is for clients that are made elsewhere: ``AsyncLossClient(address)``, ``RemoteLoss(loss,
    address)``, ``remote_loss(loss, address)``.  With ``shm_dir`` those in other processes share
    memory with it, and those in this one send their batches.

    Raises:
        InvalidRequestError: as ``local``.
    """
    with _folder() as folder, turns().parting("a server in it"):
        given = {"address": f"unix:{folder}/lossd.sock", "metrics_port": 0, **settings}
        server, owner = _started(given), os.getpid()
        try:
            yield server.address
        finally:
            # To stop takes a thread, and none begins once the interpreter ends, which ends all.
            if os.getpid() == owner and not sys.is_finalizing():
                server.stop()
                server.close()


def _started(given: dict[str, Any]) -> Any:
    """Returns a server with settings, once it runs."""
    app, config = _module("lossd.serving.app"), _module("lossd.serving.config")
    known = {setting.name for setting in config.settings()}
    unknown = sorted(given.keys() - known)
    if unknown:
        hint = guess(unknown[0], sorted(known))
        raise InvalidRequestError(f"settings must be those of the server, got {unknown[0]}{hint}")
    try:
        return app.start(config.Config(**given))
    except _module("lossd.errors").ServiceError as error:
        raise InvalidRequestError(str(error), field=error.field) from error


@contextlib.contextmanager
def _folder() -> Iterator[str]:
    """Yields a folder that only this user can enter; a fork that ends leaves it to its parent.

    It goes with the process at the latest, also where the context is never left.
    """
    folder, owner = tempfile.mkdtemp(prefix="lossd-"), os.getpid()

    def remove() -> None:
        if os.getpid() == owner:
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    try:
        yield folder
    finally:
        atexit.unregister(remove)
        remove()


def _module(name: str) -> ModuleType:
    """Imports a module of the server, which a client alone does not have."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InvalidRequestError(
            f"a local server must be installed (pip install 'lossd[server]'), got: {error}"
        ) from error
