"""The facts of docs/wire.md, held against the code."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from lossd import chunks, errors, tensors, v1
from lossd.client.options import channel_options
from lossd.client.retry import RetryPolicy
from lossd.serving.config import Config, settings
from lossd.serving.loss_service.curves import JOB
from lossd.serving.rpc.statuses import code_of
from lossd.v1 import (
    device_memory_service_pb2,
    evaluation_service_pb2,
    loss_service_pb2,
    shared_memory_service_pb2,
)

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs/wire.md").read_text()
FILES = (
    loss_service_pb2,
    evaluation_service_pb2,
    shared_memory_service_pb2,
    device_memory_service_pb2,
)
REASON = re.compile("[A-Z_]+")
# Of a server that does not start; a caller never sees them.
STARTING = {
    "BACKEND_UNAVAILABLE", "ACCESS", "ADDRESS", "CONFIG", "NETWORK", "SHM_DIR", "THREADS",
    "UNSUPPORTED",
}  # fmt: skip
# Of a class that is raised with a more special reason, as a test shows.
GENERAL = {"OVERLOADED"}


def rows(section: str) -> list[list[str]]:
    """The cells of the tables of a section."""
    text = TEXT.split(f"\n## {section}\n")[1].split("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_every_service_and_method_is_named() -> None:
    services = [s for file in FILES for s in file.DESCRIPTOR.services_by_name.values()]
    found = {name for row in rows("Services") for cell in row[:2] for name in names(cell)}

    assert found - {"grpc.health.v1.Health", "Check", "Watch"} == {
        *(service.full_name for service in services),
        *(method.name for service in services for method in service.methods),
    }
    kinds = {name: row[2] for row in rows("Services") for name in names(row[1])}
    for method in (method for service in services for method in service.methods):
        asks, answers = method.client_streaming, method.server_streaming
        expected = {
            (False, False): "one request, one reply",
            (True, False): "a stream of requests, one reply",
            (True, True): "a stream each way",
        }[asks, answers]
        assert kinds[method.name] == expected


def test_every_type_has_its_size() -> None:
    said = {name: int(row[1]) for row in rows("Tensors") for name in names(row[0])}

    assert said == {
        v1.DType.Name(kind): dtype.itemsize for dtype, kind in tensors.type_of_dtype.items()
    }


def test_the_sizes_and_times_are_those_of_the_code() -> None:
    sizes = {row[0]: row[1] for row in rows("Sizes")}
    known = {setting.flag: setting.default for setting in settings()}

    text = " ; ".join([*sizes.values(), TEXT.split("\n## Time\n")[1].split("\n## ")[0]])
    said = re.findall(r"(\d+)[^\d;]*?(--[\w-]+)", text)
    assert len(said) == 6
    for number, flag in said:
        assert int(number) == float(str(known[flag])), flag
    assert str(chunks.CHUNK_BYTES) in sizes["a chunk"]
    assert str(Config().max_message_bytes) in TEXT
    policy = RetryPolicy()
    assert f"doubles from {policy.first_delay:g} s to {policy.longest_delay:g} s" in TEXT
    assert f"usually {errors.Overloaded.retry_seconds:g} s" in TEXT


def test_every_reason_has_its_code_and_says_whether_to_ask_again() -> None:
    raised = dict(_raised())
    said = {
        reason: (code, "with RetryInfo" in row[1])
        for row in rows("Errors")
        if len(row) == 2 and set(names(row[0])) & raised.keys()
        for reason, code in zip(names(row[0]), _spread(row), strict=True)
    }

    assert set(said) == raised.keys() - STARTING - GENERAL
    for reason, (code, is_repeated) in said.items():
        kind = raised[reason]
        assert code_of(kind("")).name == code, reason
        if code == "RESOURCE_EXHAUSTED":
            assert issubclass(kind, errors.Overloaded) == is_repeated, reason


def test_a_busy_server_always_says_of_what_it_has_too_much() -> None:
    raised = [
        {one.arg for one in node.keywords}
        for path in (ROOT / "server/lossd").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Overloaded"
    ]

    assert len(raised) >= 3
    assert all("reason" in named for named in raised)


def _raised() -> Iterator[tuple[str, type[errors.ServiceError]]]:
    """The reasons that the server gives, with the errors that bring them."""
    kinds = {kind.__name__: kind for kind in _kinds()}
    nodes = [
        node
        for path in (ROOT / "server/lossd").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
    ]
    keepers = dict(_keepers(nodes))
    for node in nodes:
        if isinstance(node, ast.ClassDef):
            name, values = node.name, [_assigned(line) for line in node.body]
        elif isinstance(node, ast.Call):
            name, values = ast.unparse(node.func), [_passed(one) for one in node.keywords]
            if name in keepers:
                place, name = keepers[name]
                values += [_text(one) for one in node.args[place : place + 1]]
        else:
            continue
        for value in filter(REASON.fullmatch, values):
            yield value, kinds.get(name, errors.ServiceError)


def _keepers(nodes: list[ast.AST]) -> Iterator[tuple[str, tuple[int, str]]]:
    """Yields the classes that keep a reason: its place among their fields, and the error's name."""
    for node in nodes:
        if not isinstance(node, ast.ClassDef):
            continue
        fields = [ast.unparse(line.target) for line in node.body if isinstance(line, ast.AnnAssign)]
        for call in ast.walk(node):
            if isinstance(call, ast.Call) and "reason" in fields:
                passed = {one.arg: ast.unparse(one.value) for one in call.keywords}
                if passed.get("reason") == "self.reason":
                    yield node.name, (fields.index("reason"), ast.unparse(call.func))


def _assigned(line: ast.stmt) -> str:
    """The reason of a class, or an empty text."""
    if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "reason":
        return str(ast.literal_eval(line.value))
    return ""


def _passed(one: ast.keyword) -> str:
    """The reason that is passed to an error, or an empty text."""
    return _text(one.value) if one.arg == "reason" else ""


def _text(value: ast.expr) -> str:
    """The text of a constant, or an empty one."""
    return str(value.value) if isinstance(value, ast.Constant) else ""


def _spread(row: list[str]) -> list[str]:
    """The codes of a row: one for all its reasons, or one for each."""
    codes = names(row[1])
    return codes if len(codes) > 1 else codes * len(names(row[0]))


def test_every_code_is_explained() -> None:
    explained = {
        name for row in rows("Errors") if len(row) == 3 for name in names(row[0].split(" with")[0])
    }

    assert explained <= {code.name for code in grpc.StatusCode}
    assert {code_of(kind("")).name for kind in _kinds()} <= explained


def _kinds() -> list[type[errors.ServiceError]]:
    known = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    return [kind for kind in known if issubclass(kind, errors.ServiceError)]


def test_the_service_config_is_that_of_the_python_client() -> None:
    (said,) = re.findall(r"```json\n(.*?)\n```", TEXT, re.DOTALL)

    assert json.loads(said) == json.loads(str(dict(channel_options())["grpc.service_config"]))
    assert f"| `{JOB}` |" in TEXT


@pytest.mark.parametrize("option", ["go_package", "java_package", "csharp_namespace"])
def test_the_packages_are_those_of_the_protos(option: str) -> None:
    packages = {getattr(file.DESCRIPTOR.GetOptions(), option) for file in FILES}

    assert len(packages) == 1
    assert f"`{packages.pop().split(';')[0]}`" in TEXT
