"""Building sums of losses, and naming their inputs."""

from typing import Any

import pytest

from lossd import v1
from lossd.client import InvalidRequestError, kinds, weighted_sum
from lossd.client.input_names import names_of


def test_a_sum_has_weights_losses_and_names() -> None:
    made = weighted_sum(
        (0.7, v1.CrossEntropy(label_smoothing=0.1)), (0.3, v1.Dice(), {"predictions": "masks"})
    )
    assert [term.weight for term in made.terms] == [0.7, 0.3]
    assert made.terms[0].loss.cross_entropy.label_smoothing == 0.1
    assert made.terms[1].loss.WhichOneof("kind") == "dice"
    assert dict(made.terms[1].input_names) == {"predictions": "masks"}


def test_positional_inputs_are_those_of_the_terms_in_order() -> None:
    known = {"huber": ("predictions", "targets"), "triplet": ("anchor", "predictions")}
    names = {"predictions": "masks"}
    spec = kinds.spec_of(weighted_sum((1, v1.Huber()), (2, v1.Huber(), names)))
    assert kinds.loss_names(spec) == ("huber", "huber")
    assert names_of(spec, known) == ("predictions", "targets", "masks")


@pytest.mark.parametrize(
    "term",
    [
        v1.Huber(),
        (1,),
        (1, v1.Huber(), "masks"),
        (1, v1.Huber(), {"targets": 3}),
        (1, v1.Huber(), {"targets": "\ud800"}),
        (),
    ],
)
def test_what_is_no_term_is_refused(term: Any) -> None:
    with pytest.raises(InvalidRequestError, match=r"terms\[1\] must be .*, got "):
        weighted_sum((1, v1.Huber()), term)


def test_what_is_no_weight_or_loss_is_refused() -> None:
    bad: Any = "much"
    with pytest.raises(InvalidRequestError, match=r"terms\[0\].weight must be a number"):
        weighted_sum((bad, v1.Huber()))
    with pytest.raises(InvalidRequestError, match="loss must be a message of LossSpec"):
        weighted_sum((1.0, v1.Tensor()))  # type: ignore[arg-type]
