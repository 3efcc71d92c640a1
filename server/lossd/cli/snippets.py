"""Commands and lines of Python to copy, and worked examples as text."""

import enum
import json
from collections.abc import Mapping, Sequence
from typing import Any

from lossd import v1
from lossd.evaluation import MetricExample
from lossd.losses import Example
from lossd.naming import members_of

_WIDTH = 78  # columns of a line, so that it fits into 80 where it is indented

SUM_COMMAND = """\
lossd compute weighted_sum \\
  --input predictions=predictions.npy \\
  --input targets=targets.npy \\
  --param terms='[{"weight": 0.7, "loss": {"huber": {"delta": 2}}},
                  {"weight": 0.3, "loss": {"log_cosh": {}}}]' \\
  --output gradients.npz"""

SUM_PYTHON = """\
from lossd.client import LossClient, weighted_sum
from lossd.v1 import Huber, LogCosh

loss = weighted_sum((0.7, Huber(delta=2)), (0.3, LogCosh()))
with LossClient("localhost:50051") as client:
    result = client.compute(loss, predictions=predictions, targets=targets)
    print(result.loss, result.gradients["predictions"])"""


def compute_command(name: str, inputs: Sequence[str], needed: Mapping[str, Any]) -> str:
    """Returns a command that computes a loss; ``needed`` are its required parameters."""
    given = [f"--input {one}={one}.npy" for one in inputs]
    given += [f"--param {parameter}={argument(value)}" for parameter, value in needed.items()]
    given += ["--networks networks"] if "network" in needed else []
    return _command(f"compute {name}", [*given, "--output gradients.npz"])


def evaluate_command(name: str, files: Mapping[str, str], given: Mapping[str, Any]) -> str:
    """Returns a command that evaluates a metric; ``files`` has the suffix of each input's file."""
    said = [f"--input {one}={one}.{suffix}" for one, suffix in files.items()]
    said += [f"--param {parameter}={argument(value)}" for parameter, value in given.items()]
    return _command(f"evaluate {name}", said)


def compute_python(message: str, inputs: Sequence[str], needed: Mapping[str, Any]) -> str:
    """Returns Python that computes a loss."""
    parameters = _literals(message, needed)
    shown = f'result.loss, result.gradients["{inputs[0]}"]'
    return _python("compute", message, parameters, inputs, shown)


def evaluate_python(message: str, inputs: Sequence[str], given: Mapping[str, Any]) -> str:
    """Returns Python that evaluates a metric."""
    parameters = _literals(message, given)
    return _python("evaluate", message, parameters, inputs, "result.value, result.values")


def example(declared: Example | MetricExample, value: Any) -> str:
    """Returns a worked example, in one line."""
    given = [f"{name} = {_number(one)}" for name, one in declared.inputs.items()]
    given += [f"{name} = {_member(one)}" for name, one in declared.parameters.items()]
    return f"{', '.join(given)} give {_number(value)}"


def _command(verb: str, given: Sequence[str]) -> str:
    return " \\\n  ".join([f"lossd {verb}", *given])


def _python(
    verb: str, message: str, parameters: Sequence[str], inputs: Sequence[str], shown: str
) -> str:
    spec = _call(message, parameters, 8)
    call = _call(f"result = client.{verb}", [spec, *(f"{name}={name}" for name in inputs)], 4)
    return "\n".join(
        [
            "from lossd.client import LossClient",
            f"from lossd.v1 import {message}",
            "",
            'with LossClient("localhost:50051") as client:',
            f"    {call}",
            f"    print({shown})",
        ]
    )


def _call(name: str, arguments: Sequence[str], indent: int) -> str:
    """Returns a call in one line, or with one line for each argument where that is too long."""
    line = f"{name}({', '.join(arguments)})"
    if indent + len(line) <= _WIDTH and "\n" not in line:
        return line
    space = " " * indent
    lines = "".join(f"{space}    {argument},\n" for argument in arguments)
    return f"{name}(\n{lines}{space})"


def _literals(message: str, given: Mapping[str, Any]) -> list[str]:
    return [f"{name}={_literal(message, name, one)}" for name, one in given.items()]


def _literal(message: str, name: str, value: Any) -> str:
    """Returns a parameter in Python, a member of an enum by its full name."""
    if not isinstance(value, enum.Enum):
        return json.dumps(value)
    kind = getattr(v1, message).DESCRIPTOR.fields_by_name[name].enum_type
    return json.dumps(members_of(kind)[value.name])


def argument(value: Any) -> str:
    """Returns the value of a parameter as ``--param`` takes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ",".join(map(argument, value))
    if isinstance(value, enum.Enum):
        return value.name
    return value if isinstance(value, str) else _number(value)


def _member(value: Any) -> str:
    return getattr(value, "name", None) or _number(value)


def _number(value: Any) -> str:
    """Returns a number, a text, or a list of them, however deep, as Python."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_number, value))}]"
    return f"{value:.6g}" if isinstance(value, float) else repr(value)
