"""Copies of large arrays, made in parts."""

import numpy as np
import pytest

from lossd.client.copying import PART_BYTES, Copier


@pytest.mark.parametrize("size", [0, 1, PART_BYTES, PART_BYTES + 1, 3 * PART_BYTES + 3])
def test_what_is_copied_in_parts_is_copied_whole(size: int) -> None:
    array = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    place = np.zeros_like(array)
    copier = Copier()
    copier.copy(array, place)
    copier.close()
    np.testing.assert_array_equal(place, array)
