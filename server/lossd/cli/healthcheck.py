"""``lossd healthcheck``."""

import contextlib
import http.client
import os
import ssl
import urllib.request
from typing import Any

import click
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lossd.cli.arguments import Real
from lossd.cli.failures import told
from lossd.cli.reaching import Credentials, is_given, takes_tls
from lossd.cli.settings import type_of
from lossd.client import TLS, unreached
from lossd.client.errors import from_rpc_error
from lossd.client.security import explained
from lossd.serving import addresses
from lossd.serving.config import Config, ConfigError, settings

_SETTINGS = {setting.name: setting for setting in settings()}
_ADDRESS = _SETTINGS["address"]


@click.command()
@click.option(
    "--address",
    metavar="ADDRESS",
    default=Config().address,
    envvar=_ADDRESS.variable,
    show_default=True,
    show_envvar=True,
    help="Address of the server: host:port or unix:/path.",
)
@click.option(
    "--timeout", type=Real(0.001, 3600), default=1.0, show_default=True, help="Seconds to wait."
)
@takes_tls
def healthcheck(*, address: str, timeout: float, credentials: Credentials) -> None:
    """Succeed if a server is ready, for container runtimes.

    It fails with the reason if not. Where LOSSD_TLS_CERT is set, and neither --address nor a flag
    of TLS is given, it asks the page /readyz.
    """
    try:
        _ADDRESS.checked(address)
    except ConfigError as error:
        raise click.UsageError(str(error)) from error
    if credentials.tls is None and not is_given("address") and _set("tls_cert"):
        _ask_page(timeout)
        return
    target = addresses.reachable(address)
    with _channel(target, credentials.tls) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        try:
            reply = check(health_pb2.HealthCheckRequest(), timeout=timeout)
        except grpc.RpcError as error:
            raise click.ClickException(f"{address}: {_told(error, timeout)}") from error
    if reply.status != health_pb2.HealthCheckResponse.SERVING:
        raise click.ClickException(f"{address}: not ready")
    click.echo("ready")


def _told(error: grpc.RpcError, seconds: float) -> str:
    """Returns why a server did not answer, in the words of the client."""
    found = explained(from_rpc_error(error))
    unreached.explain(found, "server", seconds)
    return found.message


def _set(name: str) -> Any:
    """Returns a setting of the server in the same environment.

    Raises:
        click.UsageError: if the variable breaks a rule of the setting; Kubernetes sets some such as
            LOSSD_METRICS_PORT itself, beside a service of that name.
    """
    setting = _SETTINGS[name]
    text = os.environ.get(setting.variable)
    if not text:
        return setting.default
    value: Any = text
    with contextlib.suppress(click.BadParameter):  # the setting tells what it must be
        value = type_of(setting).convert(text, None, None)
    try:
        return setting.checked(value)
    except ConfigError as error:
        raise click.UsageError(setting.variable + str(error).removeprefix(name)) from error


def _ask_page(timeout: float) -> None:
    """Asks on this host alone, so that the certificate need not be one for its name."""
    scheme = "https" if _set("metrics_tls_cert") else "http"
    address = f"{addresses.in_url(_set('metrics_host'))}:{_set('metrics_port')}"
    url = f"{scheme}://{addresses.reachable(address)}/readyz"
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    handler = urllib.request.HTTPSHandler(context=context)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), handler)
    try:
        with opener.open(url, timeout=timeout):
            click.echo("ready")
    except (OSError, http.client.HTTPException) as error:  # a status of an error too
        raise click.ClickException(f"{url}: {error}") from error


def _channel(target: str, tls: TLS | None) -> grpc.Channel:
    options: list[tuple[str, Any]] = [("grpc.enable_http_proxy", 0)]
    if tls is None:
        return grpc.insecure_channel(target, options)
    if tls.server_name is not None:
        options.append(("grpc.ssl_target_name_override", tls.server_name))
    with told():
        return grpc.secure_channel(target, tls.credentials(), options)
