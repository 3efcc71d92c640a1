"""A client of a server that answers, and the flags that say how to reach it."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from lossd.cli.failures import told
from lossd.client import TLS, LossClient

Command = Callable[..., Any]

_SECONDS = 5.0
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
# Parameters of a command that say where a server is: the first that it has.
_WHERE = ("server", "address")


@dataclass(frozen=True, slots=True)
class Credentials:
    """How a connection is secured, and what proves who calls."""

    tls: TLS | None = None
    token: Path | None = None


@contextlib.contextmanager
def connected_client(address: str, credentials: Credentials) -> Iterator[LossClient]:
    """Connects to a server, and first makes a small call.

    So a mistyped address fails soon, not after the long timeout of a large batch.

    Raises:
        LossdError: if the address is invalid, or nothing answers there.
    """
    tls = credentials.tls or False
    with LossClient(address, tls=tls, token=credentials.token) as client:
        client.server_info(timeout=_SECONDS)
        yield client


def is_given(name: str) -> bool:
    """Returns whether a parameter of the running command was typed."""
    context = click.get_current_context()
    return context.get_parameter_source(name) is ParameterSource.COMMANDLINE


def refuse_with_address(*names: str) -> None:
    """Refuses flags that say how to do without the server at an address, beside that address."""
    for name in filter(is_given, names):
        raise click.UsageError(f"{_flag(name)} must be left out with --address, got both")


def _refuse_alone(*names: str) -> None:
    """Refuses flags that say how to reach a server, where no server is to be reached."""
    params = click.get_current_context().params
    where = next(name for name in _WHERE if name in params)
    for name in filter(is_given, names if params[where] is None else ()):
        raise click.UsageError(f"{_flag(name)} must come with {_flag(where)}, got it alone")


def _flag(name: str) -> str:
    """Returns what is typed for a parameter of the running command."""
    known = click.get_current_context().command.params
    return next(one.opts[0] for one in known if one.name == name)


def takes_credentials(command: Command) -> Command:
    """Gives a command the flags of TLS and of a token; it is called with ``Credentials``."""
    flag = click.option("--token-file", type=_FILE, help="File with the token that says who asks.")

    def with_token(*, token_file: Path | None, credentials: Credentials, **values: Any) -> Any:
        _refuse_alone("token_file")
        return command(credentials=Credentials(credentials.tls, token_file), **values)

    return takes_tls(flag(_named(with_token, command)))


def takes_tls(command: Command) -> Command:
    """Gives a command the flags of TLS alone."""

    def with_tls(
        *,
        tls: bool,
        tls_ca: Path | None,
        tls_server_name: str | None,
        client_cert: Path | None,
        client_key: Path | None,
        **values: Any,
    ) -> Any:
        _refuse_alone("tls", "tls_ca", "tls_server_name", "client_cert", "client_key")
        given = (tls_ca, client_cert, client_key, tls_server_name)
        with told():
            made = TLS(*given) if tls or any(given) else None
        return command(credentials=Credentials(made), **values)

    flags = (
        click.option("--tls", is_flag=True, help="Connect by TLS; implied by the other TLS flags."),
        click.option("--tls-ca", type=_FILE, help="Authorities of the server; else public ones."),
        click.option("--tls-server-name", help="Name in its certificate, if not the address's."),
        click.option("--client-cert", type=_FILE, help="Certificate to show the server."),
        click.option("--client-key", type=_FILE, help="Key of --client-cert, in PEM."),
    )
    found = _named(with_tls, command)
    for flag in reversed(flags):
        found = flag(found)
    return found


def _named(wrapper: Command, command: Command) -> Command:
    """Returns the wrapper, with what click has learnt of the command so far."""
    wrapper.__doc__, wrapper.__name__ = command.__doc__, command.__name__
    taken = getattr(command, "__click_params__", [])
    wrapper.__click_params__ = taken  # type: ignore[attr-defined]  # click's
    return wrapper
