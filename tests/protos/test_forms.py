"""Values that stand for a list or a number in a message are used in their form, or refused."""

import array
import collections
import copy
import pickle
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from lossd import v1 as contract
from lossd.forms import FormError

v1: Any = contract  # what is wrong on purpose is wrong for the type checker too
BinaryCrossEntropy, CrossEntropy, Huber = v1.BinaryCrossEntropy, v1.CrossEntropy, v1.Huber
LossSpec, Perceptual, WeightedSum = v1.LossSpec, v1.Perceptual, v1.WeightedSum


class Unreadable:
    """An array without numbers, as those that JAX traces and those of PyTorch without memory."""

    def __init__(self, shape: tuple[int, ...] = ()) -> None:
        self.shape = shape

    def __iter__(self) -> Any:
        raise LookupError("not at hand")

    def tolist(self) -> Any:
        raise LookupError("not at hand")


# Every list of numbers that a loss has; metrics have none.
VECTORS = [
    (getattr(v1, kind.name), field.name)
    for spec in (v1.LossSpec, v1.MetricSpec)
    for kind in (member.message_type for member in spec.DESCRIPTOR.fields)
    for field in kind.fields
    if field.type == field.TYPE_DOUBLE and isinstance(field.default_value, list)
]


def test_every_list_of_numbers_is_among_those_tried() -> None:
    assert (CrossEntropy, "class_weights") in VECTORS
    assert (CrossEntropy, "class_priors") in VECTORS
    assert (BinaryCrossEntropy, "positive_weights") in VECTORS
    assert (v1.FeatureMatching, "layer_weights") in VECTORS
    assert len(VECTORS) == 8


@pytest.mark.parametrize(
    "value",
    [
        [1.0, 5.0],
        (1, 5),
        range(1, 6, 4),
        {0: 1.0, 1: 5.0},
        {1: 5.0, 0: 1.0},
        {True: 5.0, False: 1.0},
        {np.int64(1): 5.0, np.int64(0): 1.0},
        MappingProxyType({1: 5, 0: 1}),
        collections.Counter([1, 1, 0, 1, 1, 1]),
        {0: 1.0, 1: 5.0}.values(),
        np.array([1, 5]),
        np.array([1, 5], np.float16),
        array.array("d", [1, 5]),
        [np.float32(1), np.array(5.0)],
        CrossEntropy(class_weights=[1, 5]).class_weights,
    ],
    ids=repr,
)
def test_numbers_and_whole_mappings_are_lists(value: Any) -> None:
    assert list(CrossEntropy(class_weights=value).class_weights) == [1, 5]


def test_what_can_be_walked_only_once_is_a_list() -> None:
    numbers = (number for number in (1.0, 5.0))
    assert list(CrossEntropy(class_weights=numbers).class_weights) == [1, 5]


@pytest.mark.parametrize(("kind", "name"), VECTORS)
def test_a_mapping_is_by_its_keys_in_every_loss(kind: Any, name: str) -> None:
    made = kind(**{name: collections.Counter({2: 7, 0: 3, 1: 5})})
    assert list(getattr(made, name)) == [3, 5, 7]


@pytest.mark.parametrize(
    ("value", "got"),
    [
        ({1: 1.0}, " must have the keys 0 to n - 1 .*got 1$"),
        ({0: 1.0, 2: 5.0}, " must .*got 0, 2$"),
        ({"cat": 1.0, "dog": 5.0}, " must .*got 'cat', 'dog'$"),
        (collections.Counter("aab"), " must have the keys"),
        ({1.0, 5.0}, " must be in an order, got set$"),
        (frozenset({1.0}), " must be in an order, got frozenset$"),
        ({0: 1.0, 1: 5.0}.keys(), " must be in an order, got dict_keys$"),
        (3.0, " must be a list, got 3.0$"),
        (np.float64(3), r" must have one axis, got the shape \[\]$"),
        (np.ones((2, 1, 1)), r" must have one axis, got the shape \[2, 1, 1\]$"),
        (np.ones((1, 2)), r" must have one axis, got the shape \[1, 2\]$"),
        ([np.ones(1), np.ones(1)], r"\[0\] must be a number, got the shape \[1\]$"),
        ([[1.0], [5.0]], r"\[0\] must be a number, got \[1.0\]$"),
        ("12", " must be a list, got '12'$"),
        (b"12", " must be a list, got b'12'$"),
        ([1, None], r"\[1\] must be a number, got None$"),
        (["1", "5"], r"\[0\] must be a number, got '1'$"),
        ([1j], r"\[0\] must be a number, got 1j$"),
        (np.ma.masked_array([1.0, 5.0], [False, True]), r"\[1\] must be a number, got None$"),
        ([1.0, np.ma.masked], r"\[1\] must be a number, got masked$"),
        (np.array([1, 5], "m8[ns]"), r"\[0\] must be a number, got np.timedelta64"),
        (np.array(["2020", "2021"], "M8[ns]"), r"\[0\] must be a number, got np.datetime64"),
        (Unreadable((2,)), " must have numbers that can be read, got Unreadable: not at hand$"),
        (object(), " must be a list, got <object"),
    ],
)
@pytest.mark.parametrize(("kind", "name"), VECTORS)
def test_other_forms_are_refused_in_every_loss(kind: Any, name: str, value: Any, got: str) -> None:
    with pytest.raises(FormError, match=f"^{name}{got}"):
        kind(**{name: value})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Huber(delta=np.ones(1)), r"delta must be a number, got the shape \[1\]"),
        (lambda: Huber(delta=[1.0]), r"delta must be a number, got \[1.0\]"),
        (lambda: Huber(delta="1"), "delta must be a number, got '1'"),
        (lambda: v1.Accuracy(top_k={1: 2}), "top_k must be a whole number, got {1: 2}"),
        (lambda: v1.Accuracy(top_k=np.ones(1, int)), "top_k must be a whole number, got the"),
        (lambda: CrossEntropy(outputs=1), "outputs must be a list, got 1"),
        (
            lambda: CrossEntropy(prediction_kind="probabilities"),
            "prediction_kind must be one of LOGITS, .*, got 'probabilities': did you mean PROBA",
        ),
        (
            lambda: CrossEntropy(prediction_kind="UNSPECIFIED"),
            "prediction_kind must be one of LOGITS, .*, got 'UNSPECIFIED'",
        ),
        (
            lambda: LossSpec(cross_entropy={"outputs": ["ENTROPIE"]}),
            r"outputs\[0\] must be one of .*: did you mean ENTROPY",
        ),
        (
            lambda: CrossEntropy(label_smothing=0.1),
            "parameters of CrossEntropy must be among .*'label_smothing': did you mean label_smo",
        ),
        (lambda: Perceptual(layers="relu1"), "layers must be a list, got 'relu1'"),
        (lambda: Perceptual(layers={"relu1": 0.5}), "layers must have the keys .*got 'relu1'"),
        (lambda: Perceptual(layers={"relu1"}), "layers must be in an order, got set"),
        (lambda: WeightedSum(terms={"huber": 1}), "terms must have the keys"),
        (lambda: WeightedSum(terms=[Huber()]), r"terms\[0\] must be a WeightedTerm, got Huber"),
        (lambda: v1.WeightedTerm(loss="huber"), "loss must be a LossSpec, got 'huber'"),
        (lambda: v1.WeightedTerm(input_names=["a"]), "input_names must be a mapping of texts"),
        (
            lambda: v1.WeightedTerm(input_names={"targets": 1}),
            r"input_names\['targets'\] must be a text, got 1",
        ),
        (lambda: LossSpec(cross_entropy={"class_weights": {1: 1}}), "class_weights must have the"),
        (
            lambda: WeightedSum(terms=[{"loss": {"softmax_focal": {"class_weights": 1}}}]),
            "class_weights must be a list, got 1",
        ),
    ],
)
def test_single_things_and_nested_messages_keep_their_form_too(make: Any, message: str) -> None:
    with pytest.raises(FormError, match=f"^{message}"):
        make()


HIDDEN = np.ma.masked_array(1, mask=True)
# What NumPy gives for them is a number of nanoseconds.
TIMES = [np.timedelta64(2, "ns"), np.datetime64("2020-01-01", "ns"), np.array(1, "m8[ns]")]
NO_NUMBERS = [HIDDEN, Unreadable(), *TIMES]
WRONG: dict[str, list[Any]] = {
    "a whole number": [True, 1.5, 2.0, np.float32(2), "2", b"2", [2], None, 1j, *NO_NUMBERS],
    "a whole number of 32 bits": [1 << 31, -(1 << 31) - 1, 10**400],
    "a whole number of 64 bits": [1 << 63, -(1 << 63) - 1, np.uint64(1 << 63)],
    "True or False": [2, -1, 1.0, "yes", b"1", [True], *NO_NUMBERS],
    "a text": [3, None, ["a"], b"\xff", "\ud800"],
    "one of": [True, 1.0, b"LOGITS", 1 << 31, object(), *NO_NUMBERS],
    "a number": [True + 0j, "1", b"1", 10**400, object(), np.ma.masked, *NO_NUMBERS],
}
OF_BITS = {FieldDescriptor.CPPTYPE_INT32: 32, FieldDescriptor.CPPTYPE_INT64: 64}
RULES = {
    FieldDescriptor.CPPTYPE_BOOL: ["True or False"],
    FieldDescriptor.CPPTYPE_STRING: ["a text"],
    FieldDescriptor.CPPTYPE_ENUM: ["one of"],
    FieldDescriptor.CPPTYPE_DOUBLE: ["a number"],
    **{
        kind: ["a whole number", f"a whole number of {bits} bits"] for kind, bits in OF_BITS.items()
    },
}


@pytest.mark.parametrize("spec", [v1.LossSpec, v1.MetricSpec])
def test_whatever_is_wrong_is_refused_by_its_name_rule_and_value(spec: Any) -> None:
    tried = set()
    for kind in (member.message_type for member in spec.DESCRIPTOR.fields):
        make = getattr(v1, kind.name)
        for field in kind.fields:
            is_list = hasattr(getattr(make(), field.name), "append")
            name = f"{field.name}[0]" if is_list else field.name
            for rule in RULES.get(field.cpp_type, ()):
                for value in (v for v in WRONG[rule] if is_list or v is not None):
                    with pytest.raises(FormError) as refused:
                        make(**{field.name: [value] if is_list else value})
                    assert str(refused.value).startswith(f"{name} must be {rule}")
                    assert f", got {value!r:.64}" in str(refused.value)
                    tried.add(rule)
    assert tried >= {"a whole number", "one of", "a number"}


@pytest.mark.parametrize("spec", [v1.LossSpec, v1.MetricSpec])
def test_members_of_every_enum_go_by_their_short_names(spec: Any) -> None:
    tried = 0
    for kind in (member.message_type for member in spec.DESCRIPTOR.fields):
        make = getattr(v1, kind.name)
        for field in kind.fields:
            for value in field.enum_type.values if field.enum_type else ():
                prefix = field.enum_type.values[0].name.removesuffix("UNSPECIFIED")
                if not value.number:
                    continue
                # A list of members is a list of their names too.
                is_list = hasattr(getattr(make(), field.name), "append")
                each = (value.name.removeprefix(prefix), value.name, value.number)
                one, *others = (make(**{field.name: [v] if is_list else v}) for v in each)
                assert others == [one, one]
                tried += 1
    assert tried > 20


def test_what_is_right_is_left_to_protobuf() -> None:
    term = {"weight": 0.5, "loss": {"huber": {"delta": 2}}, "input_names": {"targets": "masks"}}
    (made,) = WeightedSum(terms=[term]).terms
    assert (made.weight, made.loss.huber.delta, dict(made.input_names)) == (
        0.5, 2, {"targets": "masks"},
    )  # fmt: skip
    assert set(CrossEntropy(outputs={1, 2}).outputs) == {1, 2}
    assert CrossEntropy(ignore_index=None) == CrossEntropy()
    assert Huber(delta=np.float32(2)).delta == 2
    with pytest.raises(ValueError, match="sharpness"):
        CrossEntropy(sharpness=1)


def test_messages_stay_messages() -> None:
    loss = CrossEntropy(class_weights={0: 1.0, 1: 5.0})
    assert isinstance(loss, CrossEntropy)
    assert isinstance(loss, Message)
    assert type(LossSpec(cross_entropy=loss).cross_entropy) is CrossEntropy
    assert pickle.loads(pickle.dumps(loss)) == loss == copy.deepcopy(loss)  # noqa: S301
    assert CrossEntropy.FromString(loss.SerializeToString()) == loss


@pytest.mark.oracle
def test_tensors_of_torch_are_lists_of_numbers() -> None:
    torch = pytest.importorskip("torch")
    weights = torch.tensor([1.0, 5.0], requires_grad=True)
    assert list(CrossEntropy(class_weights=weights).class_weights) == [1, 5]
    assert list(CrossEntropy(class_weights=list(weights)).class_weights) == [1, 5]
    with pytest.raises(FormError, match=r"got the shape \[2, 1, 1\]"):
        BinaryCrossEntropy(positive_weights=weights[:, None, None])


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore")  # PyTorch's, of kinds of tensors that may change
@pytest.mark.parametrize(
    "make",
    [
        lambda torch: torch.ones(2, device="meta"),
        lambda torch: torch.ones(2).to_sparse(),
        lambda torch: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.quint8),
        lambda torch: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    ],
    ids=["meta", "sparse", "quantized", "nested"],
)
def test_tensors_without_numbers_at_hand_are_refused(make: Any) -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(FormError, match=r"^class_weights must "):
        CrossEntropy(class_weights=make(torch))
    with pytest.raises(FormError, match=r"^delta must be a number"):
        Huber(delta=torch.ones((), device="meta"))


@pytest.mark.oracle
def test_what_jax_traces_is_no_parameter() -> None:
    jax = pytest.importorskip("jax")
    for name, value, rule in [
        ("label_smoothing", 0.5, "a number"),
        ("ignore_index", 1, "a whole number"),
        ("prediction_kind", 1, "one of"),
        ("class_weights", jax.numpy.ones(2), "have numbers"),
    ]:
        make = jax.jit(lambda given, name=name: CrossEntropy(**{name: given}) and given)
        with pytest.raises(FormError, match=f"^{name} must (be )?{rule}"):
            make(value)


def test_a_series_of_pandas_is_by_its_index() -> None:
    pandas = pytest.importorskip("pandas")
    counts = pandas.Series([1, 0, 1, 1, 1, 1]).value_counts()  # the most frequent class first
    assert list(CrossEntropy(class_priors=counts).class_priors) == [1, 5]
    with pytest.raises(FormError, match="got 7, 9"):
        CrossEntropy(class_priors=pandas.Series([1.0, 5.0], index=[7, 9]))
