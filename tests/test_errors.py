"""Errors say which field of a request is at fault, wherever in it they were found."""

import pytest

from lossd.errors import InvalidParameter, TooLarge


@pytest.mark.parametrize(
    ("path", "field", "expected"),
    [
        ("loss.huber", "delta", "loss.huber.delta"),
        ("", "delta", "delta"),
        ("batch", "", "batch"),
    ],
)
def test_a_field_lies_below_the_one_that_it_is_in(path: str, field: str, expected: str) -> None:
    error = InvalidParameter("delta must be positive, got 0", field=field)

    assert error.below(path) is error
    assert error.field == expected


def test_a_field_lies_below_several() -> None:
    error = TooLarge("weights must be few, got many", field="weights")

    assert error.below("terms[1]").below("loss").field == "loss.terms[1].weights"
