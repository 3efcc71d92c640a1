"""Generates the code of the contract, in place.

    python protos/generate.py

It needs exactly the grpcio-tools named here, and what the declarations of losses need: ml_dtypes,
NumPy and safetensors.
Code that protoc generates refuses older versions of protobuf and grpcio than its own, so the oldest
tools that serve (the first with Python 3.13) make the widest range: the floors of protobuf and
grpcio in pyproject.toml are theirs.
"""

import importlib.metadata
import pathlib
import sys
import tempfile
from types import ModuleType

from catalogued import catalogued
from derive import derive
from google.protobuf.descriptor_pb2 import FileDescriptorSet

TOOLS = "1.66.2"
ROOT = pathlib.Path(__file__).resolve().parent


def generate() -> None:
    """Writes the modules and their stubs beside the ``.proto`` files."""
    found = importlib.metadata.version("grpcio-tools")
    if found != TOOLS:
        sys.exit(f"grpcio-tools must be {TOOLS}, got {found}")
    from grpc_tools import protoc

    files = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("lossd/v1/*.proto"))
    services = [name for name in files if name.endswith("_service.proto")]
    include = pathlib.Path(protoc.__file__).parent / "_proto"
    common = ["protoc", f"-I{ROOT}", f"-I{include}"]
    code = protoc.main([*common, f"--python_out={ROOT}", f"--pyi_out={ROOT}", *files])
    code = code or protoc.main([*common, f"--grpc_python_out={ROOT}", *services])
    if code:
        sys.exit(code)
    derive(_described(protoc, [*common, *files]), ROOT / "lossd/v1", catalogued())


def _described(protoc: ModuleType, command: list[str]) -> FileDescriptorSet:
    """Returns the descriptors of the files that a command names, with their comments."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "described")
        told = ["--include_source_info", f"--descriptor_set_out={path}"]
        if code := protoc.main([*command, *told]):
            sys.exit(code)
        return FileDescriptorSet.FromString(path.read_bytes())


if __name__ == "__main__":
    generate()
