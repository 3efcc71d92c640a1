"""Guards of the layout that no tool keeps."""

import ast
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
ROOTS = ("protos", "server", "client")


def test_lossd_stays_a_namespace_over_three_roots() -> None:
    # With an __init__ a wheel still works, and an editable install sees one root of three.
    assert not [root for root in ROOTS if (ROOT / root / "lossd" / "__init__.py").exists()]


def test_every_root_is_packaged_and_editable() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]

    assert settings["dev-mode-dirs"] == list(ROOTS)
    assert settings["targets"]["wheel"]["packages"] == [f"{root}/lossd" for root in ROOTS]


def test_one_home_each_for_cupy_prometheus_opentelemetry_and_status_codes() -> None:
    homes = {
        "opentelemetry": {"server/lossd/serving/tracing.py"},
        "import cupy": {"server/lossd/backends/cupy.py"},
        "prometheus_client": {
            "server/lossd/serving/app.py",  # makes the registry that is injected
            "server/lossd/serving/collectors.py",
            "server/lossd/serving/exposition.py",
            "server/lossd/serving/families.py",
            "server/lossd/serving/telemetry.py",
        },
        "StatusCode": {
            "server/lossd/serving/rpc/answering.py",
            "server/lossd/serving/rpc/statuses.py",  # where errors of lossd become statuses
            # These speak protocols of gRPC's own, beside what lossd answers.
            "server/lossd/serving/process/health.py",
            "server/lossd/serving/process/pulse.py",
            "server/lossd/serving/rpc/prompt.py",
            "server/lossd/serving/tracing.py",  # OpenTelemetry's word for something else
        },
    }
    sources = {path: path.read_text() for path in (ROOT / "server").rglob("*.py")}
    for word, expected in homes.items():
        found = {str(p.relative_to(ROOT)) for p, text in sources.items() if word in text}
        assert found == expected, word


def test_every_package_of_the_server_has_its_layer() -> None:
    layers = _contract("each layer sees only the ones below")["layers"]

    assert {name.strip() for layer in layers for name in layer.split("|")} == _of_server()


def test_the_client_may_import_no_package_of_the_server() -> None:
    forbidden = _contract("the client sees nothing of the server")["forbidden_modules"]

    assert set(forbidden) == _of_server()


def test_all_but_what_serves_may_import_nothing_of_the_wire() -> None:
    bound = _contract("the engine knows no wire")["source_modules"]

    assert set(bound) == _of_server() - {"lossd.cli", "lossd.serving"}


def _contract(name: str) -> dict[str, Any]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    found: dict[str, Any] = next(c for c in settings["contracts"] if c["name"] == name)
    return found


def _of_server() -> set[str]:
    modules = {
        f"lossd.{path.stem}"
        for path in (ROOT / "server/lossd").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    return modules - {"lossd.__main__"}


def test_what_a_package_keeps_to_itself_is_imported_by_nobody_else() -> None:
    within = {"benchmarks/on_gpu/kernels.py"}  # measures what backends are made of
    folders = (*ROOTS, "benchmarks", "conformance", "deploy", "docs", "examples")
    sources = (path for folder in folders for path in (ROOT / folder).rglob("*.py"))

    found = {str(p.relative_to(ROOT)): foreign for p in sources if (foreign := set(_foreign(p)))}
    assert found.keys() <= within, found


def _foreign(path: Path) -> Iterator[str]:
    """The private modules of other packages that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            home, is_private, _ = name.partition("._")
            package = home.replace(".", "/")
            if is_private and _is_package(package) and f"{package}/" not in str(path):
                yield name


def _is_package(path: str) -> bool:
    return path.startswith("lossd/") and any((ROOT / root / path).is_dir() for root in ROOTS)


def test_no_file_is_divided_by_banners() -> None:
    """A second subject has a file of its own."""
    banner = re.compile(r"^ *# ?[-=*#~]{4}", re.MULTILINE)
    sources = (path for root in ROOTS for path in (ROOT / root).rglob("*.py"))
    divided = [str(path.relative_to(ROOT)) for path in sources if banner.search(path.read_text())]
    assert not divided


def test_shapes_have_one_home_and_backends_are_asked_nothing_about_them() -> None:
    question = re.compile(r"Shape\.[A-Z]|has_values")
    outside: Counter[str] = Counter()
    for path in (ROOT / "server/lossd").rglob("*.py"):
        package = path.relative_to(ROOT / "server/lossd").parts[0]
        if package not in ("losses", "shapes"):
            outside[package] += len(question.findall(path.read_text()))

    assert not outside["backends"]
    assert sum(outside.values()) - outside["kernels"] <= 5, outside
    assert outside["kernels"] <= 6, outside  # a template each


def test_floors_are_those_of_the_generated_code() -> None:
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    generated = (ROOT / "protos/lossd/v1/loss_service_pb2_grpc.py").read_text()
    messages = (ROOT / "protos/lossd/v1/losses_pb2.py").read_text()

    grpcio = generated.split("GRPC_GENERATED_VERSION = '")[1].split("'")[0]
    protobuf = messages.split("# Protobuf Python Version: ")[1].split()[0]
    assert f"grpcio>={grpcio}" in dependencies
    assert f"protobuf>={protobuf}" in dependencies
