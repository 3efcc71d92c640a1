"""A class name stands for one thing."""

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_no_class_name_stands_for_two_things() -> None:
    """Nor does a name with an underscore before it stand for another."""
    homes: dict[str, list[str]] = defaultdict(list)
    for folder in ("server", "client", "protos"):
        for path in (ROOT / folder / "lossd").rglob("*.py"):
            if not path.stem.endswith(("_pb2", "_pb2_grpc")):
                for node in ast.walk(ast.parse(path.read_text())):
                    if isinstance(node, ast.ClassDef):
                        homes[node.name.lstrip("_")].append(str(path.relative_to(ROOT)))
    shared = {name: found for name, found in homes.items() if len(found) > 1}
    assert not shared
