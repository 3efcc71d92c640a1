"""Training curves: what is drawn of a batch, for whom, and how often it is looked at."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from lossd.engine import ExampleStatuses, Result
from lossd.serving.call import Call
from lossd.serving.config import Config, ConfigError, job_names
from lossd.serving.loss_service import curves
from lossd.serving.loss_service.curves import Curves
from lossd.serving.telemetry import Telemetry


@dataclass
class Context:
    """A call of a job."""

    job: str | None = None

    def cancel(self) -> None:
        raise NotImplementedError

    def is_active(self) -> bool:
        return True

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"

    def time_remaining(self) -> float | None:
        return None

    def send_initial_metadata(self, _: Any, /) -> None:
        raise AssertionError

    def invocation_metadata(self) -> Any:
        return [("user-agent", "test")] + [("x-lossd-job", self.job)] * (self.job is not None)


@dataclass
class Drawn:
    """Curves in a registry, and a clock that a test moves."""

    jobs: str = ""
    seconds: float = 100.0
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def __post_init__(self) -> None:
        telemetry = Telemetry(self.registry, losses=["huber"])
        self.curves = Curves(telemetry, job_names(self.jobs), lambda: self.seconds)

    def draw(self, result: Result, job: str | None = None) -> None:
        self.curves.draw("huber", Call(Context(job), "1"), result)

    def value(self, name: str, job: str = "") -> float | None:
        return self.registry.get_sample_value(name, {"loss": "huber", "training_job": job})


def result(loss: float | None = 2.5, gradients: Any = None, examples: int = 2) -> Result:
    return Result(
        loss=loss, loss_sum=5.0, weight_sum=2.0, example_count=examples, ignored_count=0,
        nonfinite_examples=np.zeros(0, np.int64), status=None, per_example=None,
        statuses=ExampleStatuses(np.zeros(0, np.int64), np.zeros(0, np.uint8)),
        gradients=gradients or {}, outputs={}, backend="numpy",
    )  # fmt: skip


def test_a_batch_draws_its_loss_and_the_norm_of_all_its_gradients() -> None:
    drawn = Drawn()
    maps = [np.array([4.0]), np.zeros(2)]
    drawn.draw(result(gradients={"a": np.array([[3, 0]], np.float32), "b": maps}))

    assert drawn.value("lossd_loss_value") == 2.5
    assert drawn.value("lossd_gradient_norm") == 5.0
    assert drawn.value("lossd_training_batches_total") == 1


def test_what_has_no_number_draws_nothing() -> None:
    drawn = Drawn()
    drawn.draw(result(loss=None))
    drawn.draw(result(loss=0.0, examples=0))

    assert drawn.value("lossd_loss_value") is None


def test_a_loss_that_is_no_number_shows_as_such() -> None:
    drawn = Drawn()
    drawn.draw(result(loss=math.nan))
    drawn.draw(result(loss=3.0))

    assert drawn.value("lossd_loss_value") == 3.0


def test_only_jobs_that_the_operator_named_have_curves_of_their_own() -> None:
    drawn = Drawn(jobs="vision, speech")
    for job in ("vision", "mine", None, "x" * 1000):
        drawn.draw(result(), job)

    assert drawn.value("lossd_training_batches_total", "vision") == 1
    assert drawn.value("lossd_training_batches_total", "") == 3
    assert drawn.value("lossd_training_batches_total", "mine") is None


def test_norms_are_looked_at_once_a_second() -> None:
    drawn = Drawn()
    for gradient in (1.0, 2.0):
        drawn.draw(result(gradients={"a": np.array([gradient], np.float32)}))
    assert drawn.value("lossd_gradient_norm") == 1.0

    drawn.seconds += 1
    drawn.draw(result(gradients={"a": np.array([3.0], np.float32)}))
    assert drawn.value("lossd_gradient_norm") == 3.0


def test_a_norm_that_takes_long_is_looked_at_less_often() -> None:
    moments = iter([0.0, 5.0, 400.0, 600.0, 600.1])
    registry = CollectorRegistry()
    curves = Curves(Telemetry(registry, losses=[]), frozenset(), lambda: next(moments))
    found = []
    for gradient in (1.0, 2.0, 3.0):
        gradients = {"a": np.array([gradient], np.float32)}
        curves.draw("huber", Call(Context(), "1"), result(gradients=gradients))
        labels = {"loss": "huber", "training_job": ""}
        found.append(registry.get_sample_value("lossd_gradient_norm", labels))

    assert found == [1.0, 1.0, 3.0]  # five seconds are a hundredth of five hundred


@pytest.mark.parametrize("text", ["a b", "a,,b", "x" * 65, ",".join(map(str, range(101)))])
def test_names_of_jobs_break_their_rule(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^jobs must be at most 100 names"):
        Config(jobs=text)


def test_names_of_jobs_are_a_list() -> None:
    assert job_names("") == job_names("  ") == frozenset()
    assert job_names("a, b-1,c.d_E") == {"a", "b-1", "c.d_E"}


def test_a_norm_that_fails_fails_no_call_and_is_drawn_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    drawn, faults = Drawn(), [MemoryError()]

    def failing(*_: Any) -> float:
        if faults:
            raise faults.pop()
        return 2.0

    monkeypatch.setattr(curves, "euclidean_norm", failing)
    drawn.draw(result(gradients={"predictions": np.ones(3)}))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    drawn.seconds += 10
    drawn.draw(result(gradients={"predictions": np.ones(3)}))
    assert drawn.value("lossd_gradient_norm") == 2.0
