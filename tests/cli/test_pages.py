"""``lossd losses`` and ``lossd metrics``: everything is said, fits the terminal, and runs."""

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result

from lossd import v1
from lossd.cli import command
from lossd.cli.listed import page_named, served_metrics
from lossd.cli.loss_pages import loss_pages
from lossd.cli.metric_pages import metric_pages
from lossd.cli.page import Page
from lossd.cli.page_text import page_text
from lossd.cli.served import RunningServer, running_server
from lossd.cli.shown import plain
from lossd.evaluation import METRICS
from lossd.losses import LOSSES
from tests.drawn_networks import save_worked

PAGES = [*loss_pages(), *metric_pages()]
RUNNABLE = [page for page in PAGES if page.example]
NAMES = [page.name for page in PAGES]
DECLARED: dict[str, Any] = {**LOSSES, **METRICS}


def lossd(*arguments: object, **variables: str) -> Result:
    return CliRunner(env=variables).invoke(command, [str(argument) for argument in arguments])


def verb(page: Page) -> str:
    return "metrics" if page.name in METRICS else "losses"


def named(page: Page) -> str:
    return page.name


def test_every_loss_and_metric_has_a_page() -> None:
    assert {page.name for page in loss_pages()} == {*LOSSES, "weighted_sum"}
    assert {page.name for page in metric_pages()} == {*METRICS}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_everything_on_a_page_is_explained(page: Page) -> None:
    assert page.summary
    assert page.formula
    fields = getattr(v1, page.message).DESCRIPTOR.fields_by_name
    assert {one.name for one in page.parameters} == set(fields)
    for parameter in page.parameters:
        assert parameter.description, parameter.name
        assert all(parameter.choices.values()), parameter.name
    for one in page.inputs:
        assert one.description
        assert one.shapes


@pytest.mark.parametrize("columns", [60, 80, 120])
@pytest.mark.parametrize("page", PAGES, ids=named)
def test_a_page_fits_the_terminal_and_shows_all(page: Page, columns: int) -> None:
    shown = lossd(verb(page), page.name, COLUMNS=str(columns))
    prose = shown.output.partition("On the command line")[0]
    words = re.sub(r"\s+", " ", shown.output)

    assert shown.exit_code == 0, shown.output
    assert max(map(len, prose.splitlines())) <= columns
    if columns >= 80:  # but for a name that is too long by itself, and stands twice
        lines = [line for line in shown.output.splitlines() if len(line.strip(" \\").split()) > 2]
        assert max(map(len, lines)) <= columns
    for text in (page.summary, page.reference, page.formula, page.notes):
        assert re.sub(r"\s+", " ", text).strip() in words
    for name in [*(one.name for one in page.inputs), *(one.name for one in page.parameters)]:
        assert f"  {name}: " in shown.output


@pytest.mark.parametrize("columns", [60, 80, 120])
@pytest.mark.parametrize("kind", ["losses", "metrics"])
def test_a_list_has_a_name_a_line(kind: str, columns: int) -> None:
    lines = lossd(kind, COLUMNS=str(columns)).output.splitlines()
    pages = {"losses": loss_pages, "metrics": metric_pages}[kind]()

    assert max(map(len, lines)) <= columns
    assert [line.split()[0] for line in lines if line.startswith("  ")] == [p.name for p in pages]


@pytest.mark.parametrize("kind", ["losses", "metrics"])
@pytest.mark.parametrize("variables", [{}, {"COLUMNS": ""}, {"COLUMNS": "0"}])
def test_a_list_in_a_pipe_is_whole(
    kind: str, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    shown = lossd(kind, **variables).output.splitlines()

    for page in {"losses": loss_pages, "metrics": metric_pages}[kind]():
        assert any(line.endswith(f"  {page.summary}") for line in shown)


def test_a_search_finds_what_is_about_all_words() -> None:
    def found(*arguments: str) -> list[str]:
        return [one["name"] for one in json.loads(lossd(*arguments, "--json").stdout)]

    assert found("losses", "--search", "wilson") == []
    assert found("losses", "--search", "kullback") == ["kl_divergence"]
    assert found("losses", "--search", "LOVÁSZ region") == ["lovasz_hinge"]
    assert found("metrics", "--search", "hand till") == ["roc_auc"]
    assert lossd("losses", "--search", "wilson").exit_code == 1
    assert lossd("losses", "huber", "--search", "x").exit_code == 2


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_json_has_the_same(page: Page) -> None:
    shown = json.loads(lossd(verb(page), page.message, "--json").stdout)

    assert (shown["name"], shown["formula"]) == (page.name, page.formula)
    assert [one["default"] for one in shown["parameters"]] == [p.default for p in page.parameters]


def test_a_name_that_is_none_says_what_may_be_meant() -> None:
    for arguments, said in (
        (("losses", "cros_entropy"), "did you mean cross_entropy?"),
        (("losses", "F1"), "Error: f1 is a metric: lossd metrics f1\n"),
        (("losses", "MSELoss"), "did you mean squared_error?"),
        (("losses", "bce_with_logits"), "did you mean binary_cross_entropy?"),
        (("losses", "torch.nn.CTCLoss"), "did you mean ctc?"),
        (("compute", "SparseCategoricalCrossentropy"), "did you mean cross_entropy?"),
        (("metrics", "roc"), "did you mean roc_auc?"),
        (("metrics", "Huber"), "Error: huber is a loss: lossd losses huber\n"),
        (("losses", "f1", "--address", "localhost:1"), "f1 is a metric"),
    ):
        done = lossd(*arguments)
        assert (done.exit_code, said in done.output) == (2, True), done.output


def test_a_pointwise_loss_is_drawn_alone(tmp_path: Path) -> None:
    assert lossd("losses", "huber", "--plot", tmp_path / "huber.svg").exit_code == 0
    drawn = (tmp_path / "huber.svg").read_text()
    assert "<!-- Huber -->" in drawn
    assert "<!-- LogCosh -->" not in drawn
    assert lossd("losses", "dice", "--plot", tmp_path / "dice.svg").exit_code == 2


# ------------------------------------------------------------------ what is there to be copied


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("networks")
    save_worked(folder)
    return folder


@pytest.fixture(scope="module")
def server(networks: Path) -> Iterator[RunningServer]:
    with running_server("--log-level", "warning", "--networks", str(networks)) as running:
        yield running


def inputs_of(page: Page) -> dict[str, Any]:
    return dict(DECLARED[page.name].examples[0].inputs)


def as_text(value: Any) -> str:
    """A text, of a list of references the first one, or a word for each token."""
    if isinstance(value, str):
        return value
    return (
        as_text(value[0])
        if len(np.shape(value)) > 1 or isinstance(value[0], str)
        else (" ".join(f"w{token}" for token in value))
    )


@pytest.mark.parametrize("page", RUNNABLE, ids=named)
def test_the_command_gives_the_worked_example(
    page: Page, networks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "networks").symlink_to(networks)
    example = DECLARED[page.name].examples[0]
    beyond = []
    for name, value in inputs_of(page).items():
        if f"{name}.txt" in page.command:
            (tmp_path / f"{name}.txt").write_text("\n".join(map(as_text, value)))
        else:
            np.save(tmp_path / f"{name}.npy", np.asarray(value))
        if f"--input {name}=" not in page.command:
            beyond.append(f"--input={name}={name}.npy")
    typed = shlex.split(page.command.replace("\\\n", " "))[1:]
    done = lossd(*typed, *beyond, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    value = found["loss" if page.name in LOSSES else "value"]
    if example.value is None:
        np.testing.assert_allclose(np.asarray(found["values"], float), example.values)
    else:
        assert value == pytest.approx(example.value, rel=1e-6)


@pytest.mark.parametrize("page", RUNNABLE, ids=named)
def test_the_python_gives_the_worked_example(
    page: Page, server: RunningServer, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {
        name: value if isinstance(np.ravel(value)[0], str) else np.asarray(value)
        for name, value in inputs_of(page).items()
    }
    lines = page.python.replace("localhost:50051", server.address)
    exec(compile(lines, page.name, "exec"), given)  # noqa: S102 - what the page shows

    printed = capsys.readouterr().out
    example = DECLARED[page.name].examples[0]
    if example.value is not None and all(f"{name}={name}" in lines for name in example.inputs):
        assert float(printed.split()[0]) == pytest.approx(example.value, rel=1e-6)


# ------------------------------------------------------------------ of a server


@pytest.mark.parametrize("pages", [loss_pages(), metric_pages()], ids=["losses", "metrics"])
def test_a_server_of_this_version_has_the_same_pages(
    server: RunningServer, pages: list[Page]
) -> None:
    listed = lossd(verb(pages[0]), "--json", "--address", server.address)
    own = [asdict(page) for page in pages if page.name != "weighted_sum"]  # it is no entry

    assert listed.exit_code == 0, listed.output
    assert json.loads(listed.stdout) == json.loads(json.dumps(plain(own)))


def test_what_a_newer_server_adds_is_shown_as_it_describes_it() -> None:
    parameter = v1.ParameterDescription(name="depth", type="int64", default="2", bounds="[1, 9]")
    metric = v1.MetricDescription(
        name="novelty", message="Novelty", summary="Share of the new.", parameters=[parameter]
    )

    class Newer:
        def list_metrics(self) -> v1.ListMetricsResponse:
            return v1.ListMetricsResponse(metrics=[metric])

    (page,) = served_metrics(cast("Any", Newer()))
    assert page_named("Novelty", [page]) == "novelty"
    assert "depth: whole number in [1, 9]; default 2" in page_text(page)
    with pytest.raises(click.UsageError, match="did you mean novelty"):
        page_named("noveltee", [page])
