"""Servers of lossd as actors of Ray, for trainings that Ray runs.

    import ray
    from replicas import start, target
    from lossd.client import LossClient

    ray.init()
    replicas = start(2, port=50051)
    with LossClient(target(replicas, more=6)) as client: ...
    replicas += start(2, port=50053)  # that client finds them, in a second or two

Trainers call the servers themselves.  Ray Serve would put its proxy between, which parses every
message and knows neither the health of gRPC nor shared memory.
"""

from typing import Any

import ray

from lossd.serving import app
from lossd.serving.config import Config


class Replica:
    """One server, in the process of its actor: it ends with it, and Ray starts it again."""

    def __init__(self, port: int, settings: dict[str, Any]) -> None:
        host = ray.util.get_node_ip_address()
        config = Config(**{"metrics_port": 0, **settings, "address": f"{host}:{port}"})
        self._server = app.start(config)

    def address(self) -> str:
        """Returns where it serves."""
        return self._server.address

    def metrics_url(self) -> str:
        """Returns where Prometheus finds its metrics."""
        return self._server.metrics_url

    def drain(self) -> None:
        """Takes no more calls, and returns when those under way have ended."""
        self._server.stop()
        self._server.close()


def start(
    count: int, *, port: int = 50051, cpus: float = 1, gpus: float = 0, **settings: Any
) -> list[Any]:
    """Starts servers on consecutive ports, so that each is found again where it was.

    Args:
        count: How many; to add some to others, call it again with the port after theirs.
        port: That of the first.
        cpus: Cores of each; it has as many threads that compute.
        gpus: Devices of each; a fraction shares one with trainers.
        **settings: Settings of ``lossd serve`` by name.
    """
    threads = {"threads": max(1, round(cpus))}
    for_ever = {"max_restarts": -1, "max_task_retries": -1}  # whoever asks one meanwhile waits
    kind = ray.remote(num_cpus=cpus, num_gpus=gpus, **for_ever)(Replica)
    return [kind.remote(port + place, threads | settings) for place in range(count)]


def target(replicas: list[Any], *, more: int = 0) -> str:
    """Returns what a client connects to: all of them, once they are ready.

    Args:
        replicas: The servers that there are.
        more: How many may be added on the ports that follow.  A client tries every address, on
            each node that Ray has now, once a second, and calls those where a server is ready.
    """
    found = ray.get([replica.address.remote() for replica in replicas])
    last = max(int(address.rpartition(":")[2]) for address in found)
    nodes = [node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]] if more else []
    later = [f"{node}:{last + place}" for place in range(1, more + 1) for node in nodes]
    return "ipv4:" + ",".join([*found, *later])


def replace(replica: Any) -> None:
    """Has a server drain, and starts it again where it was; others answer meanwhile."""
    ray.get(replica.drain.remote())
    ray.kill(replica, no_restart=False)
    ray.get(replica.address.remote())  # it is there again


def stop(replica: Any) -> None:
    """Has a server drain, and ends it for good; clients that know others do not notice."""
    ray.get(replica.drain.remote())
    ray.kill(replica)
