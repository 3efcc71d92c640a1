"""Tasks of development: ``nox -l`` lists them, ``nox -s NAME -- ARGUMENTS`` runs one.

Environments are kept between runs; ``nox -R`` does not even look whether they are up to date.
With ``--no-venv`` a task uses the environment that nox itself runs in.
"""

import os
import pathlib
import shutil

import nox

nox.options.sessions = ["test"]
nox.options.reuse_venv = "yes"
nox.options.error_on_missing_interpreters = True

PROTOC = ("grpcio-tools==1.66.2", "ml_dtypes", "numpy", "safetensors")  # of protos/generate.py
BENCHMARKS = (
    "compute.py", "small.py", "transport.py", "large.py", "tokens.py", "evaluation.py",
    "networks.py", "gpu.py",
)  # fmt: skip
# Of each library that the client, the server or a command uses, what uses it.
AT_THE_FLOORS = (
    "tests/cli/test_arrays.py", "tests/cli/test_columns.py", "tests/cli/test_commands.py",
    "tests/cli/test_terminal_plot.py", "tests/cli/test_wrong_uses.py",
    "tests/client/test_clients.py", "tests/end_to_end/test_clients.py",
    "tests/end_to_end/test_service.py", "tests/end_to_end/test_tracing.py",
    "tests/evaluation/test_classification.py", "tests/evaluation/test_text.py",
    "tests/networks/test_files.py", "tests/protos", "tests/serving/access",
    "tests/serving/test_config.py", "tests/serving/test_logs.py", "tests/serving/test_telemetry.py",
)  # fmt: skip
FRAMEWORKS_AT_THE_FLOORS = (
    "tests/client/test_frameworks.py", "tests/training/test_jax.py", "tests/training/test_kept.py",
    "tests/training/test_mapped.py", "tests/training/test_torch.py",
    "tests/training/test_transformed.py",
)  # fmt: skip
OLDEST_PYTHON = nox.project.python_versions(nox.project.load_toml("pyproject.toml"))[0]
GPULAB = pathlib.Path(os.environ.get("GPULAB", "../shared/gpulab")).resolve()


def _install(session: nox.Session, *packages: str) -> None:
    if session.virtualenv.is_sandboxed:
        session.install(*packages)


@nox.session
def test(session: nox.Session) -> None:
    """Runs the tests in minutes, on a sample of their parameters, or what the arguments select."""
    _install(session, "-e", ".[dev]")
    session.run("python", "-m", "pytest", *(session.posargs or ["-n", "auto"]))


@nox.session
def whole(session: nox.Session) -> None:
    """Runs the tests on every combination of their parameters, and every sweep at full length."""
    _install(session, "-e", ".[dev]")
    session.run("python", "-m", "pytest", "--whole", *(session.posargs or ["-n", "auto"]))


@nox.session(python=OLDEST_PYTHON)
def floors(session: nox.Session) -> None:
    """Runs a sample of the tests with the oldest versions that pyproject.toml allows."""
    _run_at_the_floors(session, "arrow,dev,otel", AT_THE_FLOORS)


@nox.session(python=OLDEST_PYTHON)
def framework_floors(session: nox.Session) -> None:
    """Does so for PyTorch and JAX: gigabytes."""
    _run_at_the_floors(session, "dev,jax,torch", FRAMEWORKS_AT_THE_FLOORS)


def _run_at_the_floors(session: nox.Session, extras: str, tests: tuple[str, ...]) -> None:
    session.install("uv")
    # Without --upgrade an environment would keep what is newer than a floor that was lowered.
    session.run_install(
        "uv", "pip", "install", "--upgrade", "--resolution", "lowest-direct", "-e", f".[{extras}]",
        env={"LOSSD_HOST_KERNELS": "none"},  # those of the checkout are kept
    )  # fmt: skip
    # Old versions use what newer ones of their own dependencies will not have, and OpenTelemetry's
    # gives traces the same names whenever Python's random numbers begin anew.
    options = (
        "-W", "default::DeprecationWarning", "-W", "default::FutureWarning", "-p", "no:randomly",
    )  # fmt: skip
    session.run("python", "-m", "pytest", *options, *(session.posargs or tests))


@nox.session
def lint(session: nox.Session) -> None:
    """Checks style, types, imports between packages, and the tables of the documents."""
    _install(session, "-e", ".[dev]")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("mypy")
    session.run("lint-imports")
    session.run("python", "docs/tables.py", "--check")


@nox.session
def contract(session: nox.Session) -> None:
    """Lints the protos, and checks that the generated code is theirs."""
    _install(session, *PROTOC, "buf-bin>=1.75")
    with session.chdir("protos"):
        session.run("buf", "lint")
        session.run("buf", "format", "--diff", "--exit-code")
    session.run("python", "protos/generate.py")
    session.run("git", "diff", "--exit-code", "--", "protos", external=True)


@nox.session
def protos(session: nox.Session) -> None:
    """Generates the code of the protos."""
    _install(session, *PROTOC)
    session.run("python", "protos/generate.py")


@nox.session
def tables(session: nox.Session) -> None:
    """Writes the tables of the documents."""
    _install(session, "-e", ".[dev]")
    session.run("python", "docs/tables.py")


@nox.session
def kernels(session: nox.Session) -> None:
    """Compiles the texts of kernels for this machine's CPU."""
    _install(session, "-e", ".[dev]")
    session.run("python", "-m", "lossd.kernels.host")


@nox.session(venv_backend="none")
def regenerate(session: nox.Session) -> None:
    """Generates everything that follows from something else: protos, tables, kernels."""
    for name in ("protos", "tables", "kernels"):
        session.notify(name)


@nox.session
def man(session: nox.Session) -> None:
    """Writes manual pages of the command line into build/man, or another directory."""
    _install(session, "-e", ".[server]")
    session.run("python", "docs/man.py", *(session.posargs or ["build/man/man1"]))


@nox.session
def docs(session: nox.Session) -> None:
    """Checks the documents: tables, links, names of files and tests, and programs."""
    _install(session, "-e", ".[dev]")
    session.run("python", "docs/tables.py", "--check")
    session.run("python", "-m", "pytest", "-q", "tests/docs", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Runs the benchmarks: all of them, or ``-- compute.py ARGUMENTS``."""
    _install(session, "-e", ".[dev,oracles]")
    if session.posargs:
        name, *arguments = session.posargs
        session.run("python", f"benchmarks/{name}", *arguments)
        return
    for name in BENCHMARKS:
        session.run("python", f"benchmarks/{name}")


@nox.session
def device(session: nox.Session) -> None:
    """Runs the tests that need a GPU on a fake device, where there is one ($GPULAB)."""
    launcher = GPULAB / "on-fake-device"
    if not launcher.exists():
        session.skip(f"no fake device at {GPULAB}")
    _install(session, "-e", ".[dev,cuda13]")
    arguments = session.posargs or ["-n", "2"]
    command = (str(launcher), "python", "-m", "pytest", "-q", "-m", "gpu", *arguments)
    session.run(*command, external=True)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Sends changed messages to a server for a minute, or as many as the arguments say."""
    _install(session, "-e", ".[dev]")
    session.run("python", "-m", "tests.fuzz.run", *(session.posargs or ["200000"]))


@nox.session
def strain(session: nox.Session) -> None:
    """Soaks a server, and has crowds and the largest batches come to it: half an hour."""
    _install(session, "-e", ".[dev]")
    session.run("python", "-m", "tests.end_to_end.soak", "100000")
    session.run("python", "-m", "tests.end_to_end.large", "512", "32", "64")
    session.run("python", "-m", "tests.end_to_end.largest")


@nox.session
def environments(session: nox.Session) -> None:
    """Installs exactly each GPU extra, and has CuPy find its libraries there: gigabytes."""
    _install(session, "-e", ".[dev]")
    session.run("python", "-m", "pytest", "-q", "-m", "environments", "--environments")


@nox.session(venv_backend="none")
def check(session: nox.Session) -> None:
    """Runs everything that must hold of a commit."""
    for name in ("lint", "contract", "test", "device"):
        session.notify(name)


@nox.session(venv_backend="none")
def clean(session: nox.Session) -> None:
    """Removes the environments and caches of these tasks."""
    for path in (".nox", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis"):
        session.log(f"removing {path}")
        shutil.rmtree(path, ignore_errors=True)
