"""The vectors: right by the oracles, kept by the server, and broken ones are found."""

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

from conformance import record, run
from conformance.cases import INTEGERS
from conformance.vector import INDEX, METHODS
from lossd import tensors, v1
from lossd.chunks import tensors_of
from lossd.forms import is_repeated
from lossd.framing import encoded_varint
from tests.end_to_end.conftest import Process, serve

FOLDER = INDEX.parent
WRITTEN = json.loads(INDEX.read_text())
VECTORS: dict[str, dict[str, Any]] = {one["name"]: one for one in WRITTEN["vectors"]}
ANSWERED = [name for name, one in VECTORS.items() if one["replies"]]
REFUSED = [name for name, one in VECTORS.items() if one["refused"]]


@pytest.fixture(scope="module")
def server() -> Iterator[Process]:
    with serve("--backend", "numpy", "--threads", "1") as process:
        yield process


@pytest.fixture(scope="module")
def channel(server: Process) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.address) as channel:
        yield channel


def test_the_files_are_what_the_oracles_say() -> None:
    assert record.files() == record.written()


def test_a_server_keeps_every_vector(server: Process) -> None:
    said = dict(run.verdicts(server.address, FOLDER))

    assert len(said) == len(WRITTEN["encodings"]) + len(VECTORS)
    assert {name: fault for name, fault in said.items() if fault} == {}


def test_every_type_method_and_way_is_among_them() -> None:
    types = {v1.DType.Name(number) for number in tensors.dtype_of_type}
    sent = {
        v1.DType.Name(tensor.dtype)
        for one in VECTORS.values()
        for message in messages(one, "requests")
        for tensor in tensors_of(message)
    }

    assert {one["dtype"] for one in WRITTEN["encodings"]} == types
    assert sent == types
    assert {one["method"] for one in VECTORS.values()} == set(METHODS)
    assert {VECTORS[f"class_indices_of_{name}"]["replies"] for name in INTEGERS} == {
        "messages/class_indices_of_bool.replies.binpb"  # the class counts, not its type
    }
    assert {"INVALID_TENSOR", "INVALID_PARAMETER", "BROKEN_STREAM", "UNKNOWN_LOSS"} <= {
        one["refused"]["reason"] for one in VECTORS.values() if one["refused"]
    }


def test_the_files_are_small() -> None:
    assert sum(map(len, record.written().values())) < 64 << 10


# ------------------------------------------------------------------ planted faults


@pytest.mark.parametrize("name", ANSWERED)
def test_each_number_of_a_reply_counts(channel: grpc.Channel, tmp_path: Path, name: str) -> None:
    vector = VECTORS[name]
    replies = messages(vector, "replies")
    planted = 0
    for position, reply in enumerate(replies):
        for changed in faults(reply, vector["relative"]):
            wrong = [*replies[:position], changed, *replies[position + 1 :]]
            assert fault(channel, tmp_path, vector, wrong), changed
            planted += 1
    assert planted >= 2


@pytest.mark.parametrize("part", ["code", "reason", "fields", "metadata"])
@pytest.mark.parametrize("name", REFUSED)
def test_each_part_of_a_refusal_counts(channel: grpc.Channel, name: str, part: str) -> None:
    wrong: dict[str, Any] = {"code": "INTERNAL", "reason": "OTHER", "fields": ["other"]}
    refused = VECTORS[name]["refused"] | {part: wrong.get(part, {"field": "other"})}
    vector = VECTORS[name] | {"refused": refused}

    assert run.fault(channel, FOLDER, vector, WRITTEN["ignored_fields"])


def test_an_answer_that_should_be_a_refusal_is_found_and_the_other_way_round(
    channel: grpc.Channel,
) -> None:
    answered, refused = VECTORS["empty_batch"], VECTORS["no_loss"]
    for vector in (
        answered | {"refused": refused["refused"]},
        refused | {"refused": None},
        answered | {"replies": None},
    ):
        assert run.fault(channel, FOLDER, vector, WRITTEN["ignored_fields"])


@pytest.mark.parametrize("place", range(len(WRITTEN["encodings"])))
def test_a_wrong_byte_of_a_type_is_found(place: int) -> None:
    encoding = WRITTEN["encodings"][place]
    data = bytearray.fromhex(encoding["data"])
    data[-1] ^= 1

    assert run.encoding_fault(encoding | {"data": data.hex()})


def test_the_verdict_is_the_exit_status(
    server: Process, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    for folder, wrong in ((FOLDER, 0), (broken(tmp_path), 1)):
        monkeypatch.setattr("sys.argv", ["run", server.address, str(folder)])
        with pytest.raises(SystemExit) as ended:
            run.main()
        assert ended.value.code == wrong
        assert capsys.readouterr().out.splitlines()[-1].endswith(f" passed, {wrong} failed")


# ------------------------------------------------------------------ parts


def messages(vector: dict[str, Any], side: str) -> list[Message]:
    method = METHODS[vector["method"]]
    kind = method.request if side == "requests" else method.reply
    return run.read(FOLDER, vector[side], kind)


def faults(reply: Message, relative: float) -> Iterator[Message]:
    """Copies of a reply, each with one number that is wrong by ten times what is tolerated."""
    for tensor_place, tensor in enumerate(tensors_of(reply)):
        if not tensor.data:
            continue
        array = tensors.read(tensor).copy()
        first = array.reshape(-1)[:1]
        first[:] = (
            first * (1 + 10 * relative) + 1 if array.dtype.kind in "iu" else off(first, relative)
        )
        changed = type(reply)()
        changed.CopyFrom(reply)
        tensors.fill([*tensors_of(changed)][tensor_place], array)
        yield changed
    for position, (part, name) in enumerate(numbers(reply)):
        value = getattr(part, name)
        wrong = value + 1 if isinstance(value, int) else off(value, relative)
        for change in (
            lambda one, n, w=wrong: setattr(one, n, w),
            lambda one, n: one.ClearField(n),
        ):
            changed = type(reply)()
            changed.CopyFrom(reply)
            change(*[*numbers(changed)][position])
            yield changed


def numbers(message: Message) -> Iterator[tuple[Message, str]]:
    """The numbers that are set in a message and in those inside it, but for tensors."""
    for field, value in message.ListFields():
        inner = value if is_repeated(field) else [value]
        if field.message_type is not None:
            for one in inner:
                if not isinstance(one, v1.Tensor):
                    yield from numbers(one)
        elif isinstance(value, float | int) and not math.isnan(value):
            yield message, field.name


def off(number: Any, relative: float) -> Any:
    return number * (1 + 10 * relative) + (number == 0) * 0.001


def fault(
    channel: grpc.Channel, folder: Path, vector: dict[str, Any], replies: list[Message]
) -> str:
    """Returns the fault that is found with replies other than the recorded ones."""
    (folder / "messages").mkdir(exist_ok=True)
    shutil.copy(FOLDER / vector["requests"], folder / vector["requests"])
    encoded = [reply.SerializeToString() for reply in replies]
    data = b"".join(encoded_varint(len(one)) + one for one in encoded)
    (folder / "messages" / "wrong.binpb").write_bytes(data)
    wrong = vector | {"replies": "messages/wrong.binpb"}
    return run.fault(channel, folder, wrong, WRITTEN["ignored_fields"])


def broken(folder: Path) -> Path:
    """A copy of the vectors, one of which expects another reason."""
    shutil.copytree(FOLDER / "messages", folder / "messages")
    index = json.loads(INDEX.read_text())
    (one,) = (one for one in index["vectors"] if one["name"] == "no_loss")
    one["refused"]["reason"] = "NO_LOSS"
    (folder / INDEX.name).write_text(json.dumps(index))
    return folder
