"""Members of enums have short names."""

from typing import Any

import pytest

from lossd import v1
from lossd.naming import name_of

KINDS = [value for value in vars(v1).values() if hasattr(value, "DESCRIPTOR")]
ENUMS = [kind.DESCRIPTOR for kind in KINDS if hasattr(kind.DESCRIPTOR, "values_by_number")]


@pytest.mark.parametrize("kind", ENUMS, ids=lambda kind: kind.name)
def test_a_member_is_named_without_the_name_of_its_enum(kind: Any) -> None:
    unset = kind.values_by_number[0].name
    prefix = unset.removesuffix("UNSPECIFIED")

    assert name_of(kind, 0) == unset
    for number, value in kind.values_by_number.items():
        assert not number or prefix + name_of(kind, number) == value.name


def test_a_number_that_is_no_member_stays_a_number() -> None:
    assert name_of(v1.Reduction.DESCRIPTOR, 99) == "99"
