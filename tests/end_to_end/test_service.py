"""A client in this process, a server in another."""

import enum
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from sklearn.datasets import load_digits

from lossd import v1
from lossd.client import DeadlineExceededError, InvalidRequestError, LossClient
from lossd.evaluation import METRICS
from lossd.losses import LOSSES
from lossd.v1 import BinaryCrossEntropy, CrossEntropy, Dice, Huber, PairwiseAuc, SquaredError
from tests.end_to_end.conftest import Process, not_served, serve


def test_the_ten_lines_of_the_readme_work(client: LossClient) -> None:
    logits = np.array([[2.0, 0.0, -1.0], [0.0, 1.0, 0.0]], np.float32)
    result = client.compute(CrossEntropy(label_smoothing=0.1), predictions=logits, targets=[0, 1])

    assert result.per_example is not None
    assert result.loss == pytest.approx(result.per_example.mean(), rel=1e-6)
    assert result.gradients["predictions"].shape == logits.shape
    assert result.gradients["predictions"].dtype == np.float32
    assert result.backend == "numpy"


def test_inputs_may_be_positional(client: LossClient) -> None:
    assert client.compute(Huber(delta=1), [3.0], [1.0]).loss == 1.5


def test_a_linear_model_follows_the_same_training_in_float64(client: LossClient) -> None:
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32)
    weights = np.zeros((64, 10), np.float32)
    exact = np.zeros((64, 10))
    for _ in range(50):
        result = client.compute(CrossEntropy(), predictions=images @ weights, targets=labels)
        weights -= 0.5 * (images.T @ result.gradients["predictions"])
        loss, gradient = softmax_regression(images.astype(np.float64), labels, exact)
        exact -= 0.5 * gradient
        assert result.loss == pytest.approx(loss, rel=1e-5)


def softmax_regression(images: Any, labels: Any, weights: Any) -> tuple[float, Any]:
    """Loss and gradient of a linear classifier, from the textbook, in float64."""
    logits = images @ weights
    shifted = logits - logits.max(axis=1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    rows = np.arange(len(labels))
    derivatives = np.exp(logs)
    derivatives[rows, labels] -= 1
    return -logs[rows, labels].mean(), images.T @ derivatives / len(labels)


def test_the_demo_learns_to_read_digits(tmp_path: Path) -> None:
    plot = tmp_path / "loss.png"
    command = [sys.executable, "-m", "lossd", "demo", "--plot", str(plot)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)

    accuracy = re.search(r"test accuracy ([\d.]+)%", done.stdout)
    assert accuracy is not None
    assert float(accuracy[1]) >= 95
    assert "calls per second" in done.stdout
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_a_training_step_that_merges_microbatches_equals_the_whole(client: LossClient) -> None:
    random = np.random.default_rng(3)
    logits, labels = random.standard_normal((9, 4)), random.integers(0, 4, 9)
    whole = client.compute(CrossEntropy(), predictions=logits, targets=labels)
    parts = [
        client.compute(
            CrossEntropy(),
            predictions=logits[part],
            targets=labels[part],
            normalizer=whole.weight_sum,
        )
        for part in (slice(0, 2), slice(2, 9))
    ]
    assert sum(part.loss or 0 for part in parts) == pytest.approx(whole.loss, rel=1e-13)
    gradients = np.concatenate([part.gradients["predictions"] for part in parts])
    np.testing.assert_allclose(gradients, whole.gradients["predictions"], rtol=1e-13)


def test_what_the_softmax_gives_beyond_comes_with_the_loss(client: LossClient) -> None:
    logits = np.array([[[2.0, 0.0, -1.0], [0.0, 5.0, 0.0]]], np.float32)
    asked = CrossEntropy(
        outputs=[v1.CROSS_ENTROPY_OUTPUT_PREDICTED_CLASS, v1.CROSS_ENTROPY_OUTPUT_ENTROPY]
    )
    result = client.compute(asked, predictions=logits, targets=[[0, 2]], mask=[[True, False]])

    assert list(result.outputs) == ["predicted_class", "entropy"]
    assert result.outputs["predicted_class"].tolist() == [[0, 0]]  # the second is ignored
    p = np.exp(logits[0, 0]) / np.exp(logits[0, 0]).sum()
    np.testing.assert_allclose(result.outputs["entropy"], [[-(p * np.log(p)).sum(), 0]], 1e-6)
    assert not client.compute(CrossEntropy(), logits, [[0, 2]]).outputs


def test_masked_nan_changes_nothing(client: LossClient) -> None:
    dirty = np.array([1.0, np.nan, 3.0], np.float32)
    result = client.compute(
        SquaredError(), predictions=dirty, targets=[0.0, 0.0, 0.0], mask=[True, False, True]
    )
    assert result.loss == 5.0
    assert result.gradients["predictions"].tolist() == [1.0, 0.0, 3.0]
    assert (result.example_count, result.ignored_count, result.nonfinite_count) == (2, 1, 0)


def test_a_row_that_is_not_finite_is_named(client: LossClient) -> None:
    result = client.compute(SquaredError(), predictions=[1.0, np.inf], targets=[0.0, 0.0])

    assert result.nonfinite_count == 1
    assert result.statuses == {1: "NONFINITE"}


def test_what_is_said_of_examples_and_of_the_whole_arrives(client: LossClient) -> None:
    masks = np.array([[1, 0], [0, 0]])
    skipped = client.compute(Dice(empty_target="EMPTY_TARGET_SKIP"), np.zeros((2, 2)), masks)
    assert skipped.statuses == {1: "EMPTY_TARGET"}
    assert (skipped.example_count, skipped.ignored_count) == (1, 1)
    undefined = client.compute(PairwiseAuc(), [0.5, 1.0], [1, 1])
    assert (undefined.loss, undefined.per_example) == (0.0, None)
    assert undefined.status == "UNDEFINED"
    with pytest.raises(InvalidRequestError, match="reduction must be mean for PairwiseAuc"):
        client.compute(PairwiseAuc(), [0.5, 1.0], [1, 0], reduction="sum")


def test_what_a_caller_can_fix_is_said_with_its_field(client: LossClient) -> None:
    with pytest.raises(
        InvalidRequestError, match=r"targets\[1\] must be in \[0, 2\), got 7"
    ) as caught:
        client.compute(CrossEntropy(), predictions=np.zeros((2, 2)), targets=[0, 7])

    assert caught.value.field == "inputs.targets"
    assert caught.value.metadata["index"] == "1"


@pytest.mark.filterwarnings("ignore::lossd.client.BatchWarning")  # some are square
def test_every_loss_answers_its_own_hand_worked_examples(client: LossClient) -> None:
    for loss in LOSSES.values():
        for example in loss.examples:
            given = {name: on_the_wire(value) for name, value in example.parameters.items()}
            message = getattr(v1, loss.message)(**given)
            result = client.compute(message, gradients=tuple(example.gradients), **example.inputs)
            assert result.loss == pytest.approx(example.value, rel=1e-12)


def on_the_wire(value: Any) -> Any:
    """A parameter; of an enum the name of its value: DISTRIBUTION_KIND_LOGITS."""
    if isinstance(value, tuple):
        return [on_the_wire(one) for one in value]
    if not isinstance(value, enum.Enum):
        return value
    kind = re.sub(r"(?<!^)(?=[A-Z])", "_", type(value).__name__).upper()
    return f"{kind}_{value.name}"


def test_the_catalogue_lists_every_loss(client: LossClient) -> None:
    assert [entry.name for entry in client.list_losses().losses] == list(LOSSES)


def test_the_catalogue_lists_every_metric_with_a_loss_to_train_with(client: LossClient) -> None:
    listed = client.list_metrics().metrics

    assert [entry.name for entry in listed] == list(METRICS)
    for entry in listed:
        fields = getattr(v1, entry.message).DESCRIPTOR.fields_by_name
        assert {parameter.name for parameter in entry.parameters} == set(fields)
        assert entry.surrogate in LOSSES
        assert all(one.shapes for one in entry.inputs)
    sequences = {entry.name: [one.sequences for one in entry.inputs] for entry in listed}
    assert sequences["bleu"] == [True, True]
    assert sequences["roc_auc"] == [False, False]


def test_server_info_says_what_computes_and_why(client: LossClient) -> None:
    info = client.server_info()

    assert info.backend == "numpy"
    assert info.backend_reason
    assert info.limits.message_size_bytes > 0
    assert "numpy" in {library.name for library in info.libraries}


def test_metrics_count_what_the_client_did(server: Process, client: LossClient) -> None:
    def counted() -> float:
        with urllib.request.urlopen(server.metrics_url, timeout=5) as reply:  # noqa: S310 - ours
            text = reply.read().decode()
        series = r'lossd_requests_total\{loss="binary_cross_entropy",status="OK"\}'
        found = re.search(rf"^{series} (\S+)", text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    before = counted()
    for _ in range(3):
        client.compute(BinaryCrossEntropy(), predictions=[0.0], targets=[1])
    assert counted() == before + 3


def test_health_and_reflection_are_served(server: Process) -> None:
    with grpc.insecure_channel(server.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ("", "lossd.v1.LossService"):
            reply = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=5)
            assert reply.status == health_pb2.HealthCheckResponse.SERVING


SYMBOLS = {
    "lossd.v1.LossService": "lossd/v1/loss_service.proto",
    "lossd.v1.LossService.ComputeLoss": "lossd/v1/loss_service.proto",
    "lossd.v1.EvaluationService.EvaluateStream": "lossd/v1/evaluation_service.proto",
    "lossd.v1.Tensor": "lossd/v1/tensor.proto",
    "lossd.v1.Tensor.shape": "lossd/v1/tensor.proto",
    "grpc.health.v1.Health.Check": "",
    "lossd.v1.LossService.Nothing": None,
    "lossd.v1.Nothing.ComputeLoss": None,
    "lossd.v1.Nothing": None,
    "": None,
}


def test_whatever_has_a_name_is_found_by_it(server: Process) -> None:
    asked = [
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol) for symbol in SYMBOLS
    ]
    with grpc.insecure_channel(server.address) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        answers = list(stub.ServerReflectionInfo(iter(asked), timeout=10))
    for answer, file in zip(answers, SYMBOLS.values(), strict=True):
        found = answer.file_descriptor_response.file_descriptor_proto
        files = [descriptor_pb2.FileDescriptorProto.FromString(one).name for one in found]
        assert bool(files) == (file is not None)
        assert files[:1] == [file] or not file
        assert files or answer.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


def test_the_readme_call_with_buf_curl_works(server: Process) -> None:
    buf = shutil.which("buf", path=str(Path(sys.executable).parent))
    if buf is None:
        pytest.skip("buf is not installed beside this Python")
    url = f"http://{server.address}/lossd.v1.LossService/ListLosses"
    command = [buf, "curl", "--protocol", "grpc", "--http2-prior-knowledge", "-d", "{}", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)

    assert '"cross_entropy"' in done.stdout


def test_a_unix_socket_serves_too(tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/lossd.sock"
    with serve("--backend", "numpy", address=address) as process, LossClient(address) as client:
        assert process.address == address
        assert client.compute(SquaredError(), predictions=[2.0], targets=[0.0]).loss == 4.0


def test_sigterm_ends_the_server_with_0() -> None:
    with serve("--backend", "numpy") as process:
        assert process.end(signal.SIGTERM) == 0


def test_a_taken_address_is_one_clear_line(server: Process) -> None:
    assert not_served("--address", server.address).startswith("address must be free")


def test_without_a_gpu_cupy_refuses_and_auto_serves_on_numpy() -> None:
    from lossd.backends import cupy  # noqa: PLC0415 - probes the machine

    if cupy.probe().device is not None:
        pytest.skip("there is a GPU")
    said = not_served("--backend", "cupy")
    assert said.startswith("backend must be usable, got cupy without a GPU")

    with serve("--backend", "auto") as process, LossClient(process.address) as client:
        info = client.server_info()
        assert (info.backend, info.backend_reason[:13]) == ("numpy", "no usable GPU")


@pytest.mark.gpu
def test_with_a_gpu_auto_serves_on_cupy() -> None:
    from lossd.backends import cupy  # noqa: PLC0415 - probes the machine

    if cupy.probe().device is None:
        pytest.skip(f"no GPU: {cupy.probe().reason}")
    # Which of the two is quicker at copies and a pass over them differs from run to run.
    routes = ("--routes", "pointwise=numpy,rowwise=cupy")
    with serve("--backend", "auto", *routes) as process, LossClient(process.address) as client:
        info = client.server_info()
        assert (info.backend, info.backend_reason) == ("cupy", "auto: a GPU can be used")
        result = client.compute(CrossEntropy(), predictions=np.zeros((2, 4)), targets=[0, 1])
        assert result.backend == "cupy"
        assert result.loss == pytest.approx(np.log(4))
        quick = client.compute(SquaredError(), predictions=[2.0], targets=[0.0])
        assert (quick.backend, quick.loss) == ("numpy", 4.0)


def test_a_call_past_its_deadline_is_given_up_and_the_next_is_served(client: LossClient) -> None:
    logits = np.zeros((20_000, 500), np.float32)
    with pytest.raises(DeadlineExceededError):
        client.compute(
            CrossEntropy(), predictions=logits, targets=np.zeros(20_000, int), timeout=0.01
        )
    assert client.compute(SquaredError(), predictions=[2.0], targets=[0.0]).loss == 4.0
