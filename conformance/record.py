"""Writes the vectors as files, for clients in other languages.

    python -m conformance.record            writes them
    python -m conformance.record --check    fails if one of them differs

A file holds messages one after the other, each after its length as a varint: the delimited form of
protobuf.  ``vectors.json`` says which are sent, and which have to come back.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from google.protobuf.message import Message

from conformance.cases import suite
from conformance.vector import IGNORED, INDEX, Encoding, Suite, Vector
from lossd.cli.shown import plain
from lossd.framing import encoded_varint

ROOT = INDEX.parent


def files() -> dict[Path, bytes]:
    """Returns the content of each file, by its path in the folder."""
    found: dict[bytes, Path] = {}
    index = json.dumps(_index(suite(), found), indent=1, ensure_ascii=False) + "\n"
    return {Path(INDEX.name): index.encode(), **{path: data for data, path in found.items()}}


def _index(written: Suite, found: dict[bytes, Path]) -> dict[str, Any]:
    return {
        "format": 1,
        "ignored_fields": list(IGNORED),
        "encodings": [_encoding(one) for one in written.encodings],
        "vectors": [_entry(one, found) for one in written.vectors],
    }


def _encoding(one: Encoding) -> dict[str, Any]:
    # Numbers that not every JSON parser keeps are texts.
    values = [str(v) if isinstance(v, int) and abs(v) > 1 << 53 else v for v in plain(one.values)]
    return {"dtype": one.dtype, "values": values, "data": one.data.hex()}


def _entry(vector: Vector, found: dict[bytes, Path]) -> dict[str, Any]:
    refused = vector.refused and {
        "code": vector.refused.code,
        "reason": vector.refused.reason,
        "fields": list(vector.refused.fields),
        "metadata": dict(vector.refused.metadata),
    }
    return {
        "name": vector.name,
        "about": vector.about,
        "method": vector.method.path,
        "requests": _path(f"{vector.name}.requests", vector.requests, found),
        "replies": _path(f"{vector.name}.replies", vector.replies, found),
        "relative": vector.relative,
        "absolute": vector.absolute,
        "refused": refused,
    }


def _path(name: str, messages: Sequence[Message], found: dict[bytes, Path]) -> str | None:
    """Returns the name of the file with the messages, if there are any; equal files are one."""
    if not messages:
        return None
    encoded = [message.SerializeToString(deterministic=True) for message in messages]
    data = b"".join(encoded_varint(len(one)) + one for one in encoded)
    return found.setdefault(data, Path("messages") / f"{name}.binpb").as_posix()


def written() -> dict[Path, bytes]:
    """Returns the content of each file that is there."""
    paths: Iterable[Path] = [INDEX, *(ROOT / "messages").glob("*")]
    return {path.relative_to(ROOT): path.read_bytes() for path in paths if path.exists()}


def main() -> None:
    """Writes the files, or compares them."""
    wanted = files()
    if "--check" in sys.argv[1:]:
        if wanted != written():
            sys.exit("vectors are out of date: run python -m conformance.record")
        return
    (ROOT / "messages").mkdir(exist_ok=True)
    for path in set(written()) - set(wanted):
        (ROOT / path).unlink()
    for path, data in wanted.items():
        (ROOT / path).write_bytes(data)


if __name__ == "__main__":
    main()
