"""The shapes of losses, one module each: everything that follows from how examples are laid out.

A shape defines how inputs are laid out and checked, how a batch is cut, what the body is given,
which contract its gradients follow, how rows become a reply, and what the catalogue prints.  Here
shapes and backends meet: a shape uses the abilities of a backend and knows nothing else about it.

To add a shape: a member of ``lossd.losses.Shape``, a module here, and its row in ``_table.py``.
"""

from lossd.shapes._blocks import BLOCK_ELEMENTS, block_rows
from lossd.shapes._lay_out import NO_NETWORKS, Laid, lay_out
from lossd.shapes._owners import Owners, owners_of
from lossd.shapes._prepared import PreparedBatch, prepare
from lossd.shapes._shape import Buffers, Evaluated, Evaluator, ShapeRules
from lossd.shapes._table import SHAPES, rules_of

__all__ = [
    "BLOCK_ELEMENTS",
    "NO_NETWORKS",
    "SHAPES",
    "Buffers",
    "Evaluated",
    "Evaluator",
    "Laid",
    "Owners",
    "PreparedBatch",
    "ShapeRules",
    "block_rows",
    "lay_out",
    "owners_of",
    "prepare",
    "rules_of",
]
