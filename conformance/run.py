"""Runs the vectors against a server, and prints a verdict.

    python -m conformance.run ADDRESS [FOLDER]

It is the reference for runners in other languages: it reads the files alone, sends the messages
with the generated code, and compares what comes back.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from conformance.compare import Within
from conformance.vector import INDEX, METHODS, Method
from lossd import tensors, v1
from lossd.chunks import Assembly
from lossd.framing import varint

_SECONDS = 30.0


def verdicts(address: str, folder: Path) -> Iterator[tuple[str, str]]:
    """Yields the name of each vector, and what is wrong with it: an empty text for nothing."""
    index = json.loads((folder / INDEX.name).read_text())
    for encoding in index["encodings"]:
        yield f"encoding of {encoding['dtype']}", encoding_fault(encoding)
    with grpc.insecure_channel(address) as channel:
        for vector in index["vectors"]:
            yield vector["name"], fault(channel, folder, vector, index["ignored_fields"])


def encoding_fault(encoding: Mapping[str, Any]) -> str:
    """Returns what is wrong with a type: numbers to bytes, and bytes to numbers."""
    dtype = _dtype_named(encoding["dtype"])
    is_float = dtype.kind not in "iub"
    values = [_number(value, is_float=is_float) for value in encoding["values"]]
    data = bytes.fromhex(encoding["data"])
    if np.array(values, dtype).tobytes() != data:
        return f"bytes must be {data.hex()}, got {np.array(values, dtype).tobytes().hex()}"
    tensor = v1.Tensor(dtype=encoding["dtype"], shape=[len(values)], data=data)
    read = tensors.read(tensor)
    if not np.array_equal(read, np.array(values, dtype), equal_nan=is_float):
        return f"numbers must be {values}, got {read}"
    return ""


def _dtype_named(name: str) -> np.dtype[Any]:
    """Returns the NumPy type of a ``DType``."""
    types = tensors.dtype_of_type.items()
    return next(dtype for kind, dtype in types if v1.DType.Name(kind) == name)


def _number(value: Any, *, is_float: bool) -> Any:
    return float(value) if is_float else int(value)


# ------------------------------------------------------------------ calls


def fault(
    channel: grpc.Channel, folder: Path, vector: Mapping[str, Any], ignored: Iterable[str]
) -> str:
    """Returns what is wrong with the answer to a vector; an empty text where it is right."""
    method = METHODS[vector["method"]]
    requests = read(folder, vector["requests"], method.request)
    wanted = read(folder, vector["replies"], method.reply)
    found, ended = called(channel, method, requests)
    if said := _end_fault(vector["refused"], ended):
        return said
    if len(found) != len(wanted):
        return f"replies must be {len(wanted)}, got {len(found)}"
    within = Within(vector["relative"], vector["absolute"], frozenset(ignored))
    differences = (within.difference(one, other) for one, other in zip(wanted, found, strict=True))
    return next(filter(None, differences), "")


def read(folder: Path, name: str | None, kind: type[Message]) -> list[Message]:
    """Returns the messages of a file, each of which follows its length."""
    data, found = (folder / name).read_bytes() if name else b"", []
    while data:
        size, start = varint(memoryview(data), 0)
        found.append(kind.FromString(data[start : start + size]))
        data = data[start + size :]
    return found


def called(
    channel: grpc.Channel, method: Method, requests: Sequence[Message]
) -> tuple[list[Message], grpc.RpcError | None]:
    """Returns what a call is answered with, and the error that it ends with."""
    encoded = [message.SerializeToString() for message in requests]
    found: list[Message] = []
    call: Any
    try:
        if method.answers_stream:
            call = channel.stream_stream(f"/{method.path}")
            found.extend(_put_together(call(iter(encoded), timeout=_SECONDS)))
        elif method.sends_stream:
            call = channel.stream_unary(f"/{method.path}")
            found.append(method.reply.FromString(call(iter(encoded), timeout=_SECONDS)))
        else:
            call = channel.unary_unary(f"/{method.path}")
            found.append(method.reply.FromString(call(*encoded, timeout=_SECONDS)))
    except grpc.RpcError as error:
        return found, error
    return found, None


def _put_together(answers: Iterable[bytes]) -> Iterator[Message]:
    """Yields results as soon as the chunks of their tensors are there."""
    assembly: Assembly[v1.ComputeLossResponse] | None = None
    for encoded in answers:
        part = v1.StreamLossResponse.FromString(encoded)
        if assembly is None:
            assembly = Assembly(part.result)
        else:
            assembly.take(part.chunk)
        if assembly.is_complete:
            framed = assembly.framed()
            yield v1.ComputeLossResponse.FromString(framed.serialise())
            assembly = None


# ------------------------------------------------------------------ refusals


def _end_fault(refused: Mapping[str, Any] | None, ended: Any) -> str:
    """Returns what is wrong with how a call ended."""
    if refused is None or ended is None:
        wanted, got = (refused or {"code": "OK"})["code"], ended.code().name if ended else "OK"
        said = f": {ended.details()}" if ended else ""
        return "" if wanted == got else f"status must be {wanted}, got {got}{said}"
    trailing = dict(ended.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailing.get("grpc-status-details-bin", b""))
    information, request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for detail in status.details:
        _ = detail.Unpack(information) or detail.Unpack(request)
    found = {
        "code": ended.code().name,
        "domain": information.domain,
        "reason": information.reason,
        "fields": [violation.field for violation in request.field_violations],
        "metadata": {k: v for k, v in information.metadata.items() if k in refused["metadata"]},
    }
    wanted = {"domain": "lossd", **refused}
    wrong = [name for name, value in wanted.items() if found[name] != value]
    return "; ".join(f"{name} must be {wanted[name]}, got {found[name]}" for name in wrong)


def main() -> None:
    """Prints a line for each vector, and fails if one is wrong."""
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: python -m conformance.run ADDRESS [FOLDER]")
    folder = Path(sys.argv[2]) if len(sys.argv) == 3 else INDEX.parent
    found = dict(verdicts(sys.argv[1], folder))
    for name, said in found.items():
        print(f"{'wrong' if said else 'right'}  {name}{said and ': '}{said}")
    wrong = sum(map(bool, found.values()))
    print(f"{len(found) - wrong} passed, {wrong} failed")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
