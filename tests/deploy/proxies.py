"""The proxies of ``deploy``, run as they are but for addresses, in front of a fleet."""

import contextlib
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lossd.client import LossClient, LossdError
from tests.deploy.fleet import NAME, Fleet, free_port

yaml = pytest.importorskip("yaml", reason="needs the extra 'dev'")

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"


def binary(name: str) -> str:
    """Where a program is, beside Python or on the path."""
    found = shutil.which(name, path=Path(sys.executable).parent) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def envoy_config(servers: Fleet, port: int) -> Any:
    """Envoy's file, for a fleet and its name server."""
    config = yaml.safe_load((DEPLOY / "envoy/envoy.yaml").read_text())
    del config["admin"]
    (listener,) = config["static_resources"]["listeners"]
    listener["address"]["socket_address"] = {"address": "127.0.0.1", "port_value": port}
    (cluster,) = config["static_resources"]["clusters"]
    (group,) = cluster["load_assignment"]["endpoints"]
    (end,) = group["lb_endpoints"]
    end["endpoint"]["address"]["socket_address"] = {"address": NAME, "port_value": servers.port}
    host, _, name_port = servers.names.address.partition(":")
    cluster["typed_dns_resolver_config"] = {
        "name": "envoy.network.dns_resolver.cares",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3."
            "CaresDnsResolverConfig",
            "resolvers": [
                {"socket_address": {"address": host, "port_value": int(name_port)}},
            ],
        },
    }
    return config


def haproxy_config(servers: Fleet, port: int) -> str:
    """HAProxy's file, for a fleet and its name server."""
    text = (DEPLOY / "haproxy/haproxy.cfg").read_text()
    for before, after in {
        "parse-resolv-conf": f"nameserver test {servers.names.address}",
        "bind :50051": f"bind 127.0.0.1:{port}",
        " lossd:50051 ": f" {NAME}:{servers.port} ",
        "connect port 9464 ": f"connect port {servers.metrics_port} ",
    }.items():
        assert text.count(before) == 1, before
        text = text.replace(before, after)
    return text


def envoy(servers: Fleet, port: int, folder: Path) -> list[str]:
    """The command that runs Envoy."""
    path = folder / "envoy.yaml"
    path.write_text(yaml.safe_dump(envoy_config(servers, port)))
    quiet = ("--disable-hot-restart", "--concurrency", "1", "--log-level", "error")
    return [binary("envoy"), "-c", str(path), *quiet]


def haproxy(servers: Fleet, port: int, folder: Path) -> list[str]:
    """The command that runs HAProxy."""
    path = folder / "haproxy.cfg"
    path.write_text(haproxy_config(servers, port))
    return [binary("haproxy"), "-db", "-q", "-f", str(path)]


PROXIES = {"envoy": envoy, "haproxy": haproxy}


@contextlib.contextmanager
def proxy(name: str, servers: Fleet, folder: Path) -> Iterator[str]:
    """Runs a proxy until it has found a server; gives its address."""
    port = free_port()
    with subprocess.Popen(
        PROXIES[name](servers, port, folder), stderr=subprocess.DEVNULL
    ) as process:
        address = f"127.0.0.1:{port}"
        try:
            with LossClient(address) as client:
                _wait(client)
            yield address
        finally:
            process.kill()


def _wait(client: LossClient) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            client.server_info(timeout=1)
        except LossdError:
            assert time.monotonic() < deadline, "a proxy must find a server"
            time.sleep(0.1)
        else:
            return
