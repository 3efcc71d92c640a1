"""Blocks of rows, which are summed together."""

# Rows are summed in blocks of about this many elements, and pieces are whole blocks.  256 Ki
# elements are 1 MiB in float32: large enough that threads seldom wait for the interpreter lock,
# which changes hands at every call of NumPy, and small enough for the cache.
BLOCK_ELEMENTS = 1 << 18


def block_rows(length: int) -> int:
    """Returns how many rows are summed together: it depends on the length of a row alone."""
    return max(1, BLOCK_ELEMENTS // length)
