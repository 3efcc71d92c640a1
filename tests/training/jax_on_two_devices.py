"""Steps of JAX with arrays on two devices, each with a loss function in its place.

    python -m tests.training.jax_on_two_devices localhost:50051

tells of each the numbers that it gives with ``remote_loss`` and with JAX alone, as JSON; a process
has as many devices as XLA_FLAGS said when it began.
"""

import functools
import json
import sys
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from lossd.client.jax import remote_loss
from lossd.v1 import CrossEntropy

ROWS, NOWHERE = PartitionSpec("workers"), PartitionSpec()
LOGITS = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
LABELS = np.array([0, 1, 2, 1])
MODEL = np.random.default_rng(1).standard_normal((3, 3)).astype(np.float32)

# A loss of logits and labels: a mean over four examples, or a vector of theirs.
Loss = Callable[..., Any]


def mesh_of(kind: AxisType) -> Mesh:
    return jax.make_mesh((2,), ("workers",), axis_types=(kind,))


def shared_out(kind: AxisType = AxisType.Auto) -> tuple[Any, Any]:
    """The batch, half of it on each device."""
    place = NamedSharding(mesh_of(kind), ROWS)
    return jax.device_put(LOGITS, place), jax.device_put(LABELS, place)


def total(loss: Loss, logits: Any, labels: Any) -> Any:
    return (loss(logits, labels) ** 2).sum()


def compiled(loss: Loss) -> Any:
    value, gradient = jax.jit(jax.value_and_grad(functools.partial(total, loss)))(*shared_out())
    return value + 1, gradient * 2  # which a step does with them


def at_once(loss: Loss) -> Any:
    value, gradient = jax.value_and_grad(functools.partial(total, loss))(*shared_out())
    return value + 1, gradient * 2


def mapped(loss: Loss) -> Any:
    logits, labels = (given.reshape(2, 2, *given.shape[1:]) for given in shared_out())
    return jax.jit(jax.vmap(jax.grad(functools.partial(total, loss))))(logits, labels) * 2


def repeated(loss: Loss) -> Any:
    def step(logits: Any, labels: Any) -> Any:
        return logits - jax.grad(functools.partial(total, loss))(logits, labels)

    @jax.jit
    def steps(logits: Any, labels: Any) -> Any:
        return jax.lax.fori_loop(0, 3, lambda _, given: step(given, labels), logits)

    return steps(*shared_out())


def explicit(loss: Loss) -> Any:
    with jax.set_mesh(mesh_of(AxisType.Explicit)):
        given = shared_out(AxisType.Explicit)
        step = jax.grad(functools.partial(total, loss))
        return jax.jit(step)(*given) * 2, step(*given) * 2


def in_shard_map(function: Callable[..., Any], *places: Any, gives: Any) -> Any:
    mesh = mesh_of(AxisType.Auto)
    return jax.jit(jax.shard_map(function, mesh=mesh, in_specs=places, out_specs=gives))


def each_its_own(loss: Loss) -> Any:
    step = in_shard_map(jax.grad(functools.partial(total, loss)), ROWS, ROWS, gives=ROWS)
    return step(LOGITS, LABELS)


def added_up(loss: Loss) -> Any:
    def summed(logits: Any, labels: Any) -> Any:
        return jax.lax.psum(total(loss, logits, labels), "workers")

    return jax.grad(in_shard_map(summed, ROWS, ROWS, gives=NOWHERE))(LOGITS, LABELS)


def of_a_model_on_all(loss: Loss) -> Any:
    def own(model: Any, logits: Any, labels: Any) -> Any:
        return total(loss, logits @ model, labels)

    step = in_shard_map(jax.grad(own), NOWHERE, ROWS, ROWS, gives=NOWHERE)
    return step(MODEL, LOGITS, LABELS)


def of_predictions_on_all(loss: Loss) -> Any:
    step = in_shard_map(jax.grad(functools.partial(total, loss)), NOWHERE, ROWS, gives=NOWHERE)
    return step(LOGITS[:2], LABELS)


CASES: Mapping[str, Callable[[Loss], Any]] = MappingProxyType(
    {
        made.__name__: made
        for made in (
            compiled, at_once, mapped, repeated, explicit, each_its_own, added_up,
            of_a_model_on_all, of_predictions_on_all,
        )
    }
)  # fmt: skip


def cross_entropies(logits: Any, labels: Any) -> Any:
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], -1)
    return -chosen[:, 0]


def of_four(logits: Any, labels: Any) -> Any:
    return cross_entropies(logits, labels).sum() / 4


def told(case: Callable[[Loss], Any], address: str) -> Any:
    """The numbers of a case with the losses of a server and with those of JAX."""
    mean = remote_loss(CrossEntropy(), address, normalizer=4.0)
    vector = remote_loss(CrossEntropy(), address, reduction="none")
    try:
        ours, theirs = (case(mean), case(vector)), (case(of_four), case(cross_entropies))
    except Exception as error:  # noqa: BLE001 - which the test tells
        return f"{type(error).__name__}: {error}"[:500]
    return [[np.asarray(one).tolist() for one in jax.tree.leaves(all_)] for all_ in (ours, theirs)]


if __name__ == "__main__":
    sys.stdout.write(json.dumps({name: told(case, sys.argv[1]) for name, case in CASES.items()}))
