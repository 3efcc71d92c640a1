"""``lossd healthcheck``."""

import click
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lossd.cli.arguments import Real
from lossd.serving import addresses
from lossd.serving.config import Config, ConfigError, settings

_ADDRESS = next(setting for setting in settings() if setting.name == "address")


@click.command()
@click.option(
    "--address",
    default=Config().address,
    envvar=_ADDRESS.variable,
    show_default=True,
    show_envvar=True,
    help="Of the server: host:port or unix:/path.",
)
@click.option(
    "--timeout", type=Real(0.001, 3600), default=1.0, show_default=True, help="Seconds to wait."
)
def healthcheck(address: str, timeout: float) -> None:
    """Succeed if a server is ready, for container runtimes; fail with the reason if not."""
    try:
        _ADDRESS.check(address)
    except ConfigError as error:
        raise click.UsageError(str(error)) from error
    target = addresses.reachable(address)
    with grpc.insecure_channel(target, options=[("grpc.enable_http_proxy", 0)]) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        try:
            reply = check(health_pb2.HealthCheckRequest(), timeout=timeout)
        except grpc.RpcError as error:
            raise click.ClickException(f"{address}: {error.details()}") from error
    if reply.status != health_pb2.HealthCheckResponse.SERVING:
        raise click.ClickException(f"{address}: not ready")
    click.echo("ready")
