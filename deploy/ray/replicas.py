"""Servers of lossd as actors of Ray, for trainings that Ray runs.

    import ray
    from replicas import found, start
    from lossd.client import LossClient

    ray.init()
    replicas = start(2, port=50051)
    with LossClient(found) as client: ...
    replicas += start(2, port=50053)  # that client finds them in seconds, whatever node they are on

Trainers call the servers themselves.  Ray Serve would put its proxy between, which parses every
message and knows neither the health of gRPC nor shared memory.
"""

import uuid
from typing import Any

import ray

from lossd.serving import app
from lossd.serving.config import Config

GROUP = "lossd"
PATIENCE = 2.0  # seconds that servers have to tell their addresses


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
    count: int,
    *,
    port: int = 50051,
    cpus: float = 1,
    gpus: float = 0,
    group: str = GROUP,
    **settings: Any,
) -> list[Any]:
    """Starts servers on consecutive ports, so that each is found again where it was.

    Where Ray has no room, they start when a node joins that has some.

    Args:
        count: How many; to add some to others, call it again with the port after theirs.
        port: That of the first.
        cpus: Cores of each; it has as many threads that compute.
        gpus: Devices of each; a fraction shares one with trainers.
        group: Those that clients take for one; the namespace of the actors.
        **settings: Settings of ``lossd serve`` by name.
    """
    threads = {"threads": max(1, round(cpus))}
    for_ever = {"max_restarts": -1, "max_task_retries": -1}  # whoever asks one meanwhile waits
    kind = ray.remote(num_cpus=cpus, num_gpus=gpus, **for_ever)(Replica)
    return [
        kind.options(name=uuid.uuid4().hex, namespace=group).remote(
            port + offset, threads | settings
        )
        for offset in range(count)
    ]


def target(replicas: list[Any]) -> str:
    """Returns what a client connects to: all of them, once they are ready."""
    return _target(ray.get([replica.address.remote() for replica in replicas]))


def found(group: str = GROUP) -> str:
    """Returns what a client connects to: the servers of a group that are ready now.

    A client that is given this function asks it again and again; for another group give it
    ``functools.partial(found, group)``.  What waits for room, or starts again, is left out.

    Raises:
        LookupError: if none is ready.
    """
    actors = ray.util.list_named_actors(all_namespaces=True)
    names = [actor["name"] for actor in actors if actor["namespace"] == group]
    asked = [answer for name in names if (answer := _asked(name, group)) is not None]
    answered, _ = ray.wait(asked, num_returns=len(asked), timeout=PATIENCE) if asked else ([], [])
    addresses = [address for answer in answered if (address := _answer(answer)) is not None]
    if not addresses:
        raise LookupError(f"group {group} must have a server that is ready, got none")
    return _target(addresses)


def _asked(name: str, group: str) -> Any:
    """Asks a server for its address; None if it has ended since it was listed."""
    try:
        return ray.get_actor(name, namespace=group).address.remote()
    except ValueError:
        return None


def _answer(answer: Any) -> str | None:
    try:
        address: str = ray.get(answer)
    except ray.exceptions.RayError:  # it ended meanwhile
        return None
    return address


def _target(addresses: list[str]) -> str:
    return "ipv4:" + ",".join(sorted(addresses))  # the same for the same servers


def replace(replica: Any) -> None:
    """Has a server drain, and starts it again where it was; others answer meanwhile."""
    ray.get(replica.drain.remote())
    ray.kill(replica, no_restart=False)
    ray.get(replica.address.remote())  # it is there again


def stop(replica: Any) -> None:
    """Has a server drain, and ends it for good; clients that know others do not notice."""
    ray.get(replica.drain.remote())
    ray.kill(replica)
