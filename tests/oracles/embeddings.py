"""Losses of embeddings.

Those of pairs and triplets take one example.  The others take the whole batch and return the value
of each example, None where it is no anchor; every pair and triplet is looked at by itself.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import mpmath

Vector = Sequence[Any]
Values = list[Any]


def _dot(left: Vector, right: Vector) -> Any:
    return sum(x * y for x, y in zip(left, right, strict=True))


def _length(vector: Vector) -> Any:
    return mpmath.sqrt(_dot(vector, vector))


def cosine(left: Vector, right: Vector) -> Any:
    """0 with a vector of zeros."""
    lengths = _length(left) * _length(right)
    return _dot(left, right) / lengths if lengths else mpmath.mpf(0)


def _norm(vector: Vector, p: float) -> Any:
    if mpmath.isinf(p):
        return max(abs(x) for x in vector)
    return mpmath.fsum(abs(x) ** mpmath.mpf(p) for x in vector) ** (1 / mpmath.mpf(p))


def distance_of(kind: Any, p: float = 2, eps: float = 0) -> Callable[[Vector, Vector], Any]:
    """The distance that a parameter names."""
    name = kind.name if kind else "EUCLIDEAN"

    def measured(left: Vector, right: Vector) -> Any:
        if name == "COSINE":
            return 1 - cosine(left, right)
        apart = [x - y + mpmath.mpf(eps) for x, y in zip(left, right, strict=True)]
        length = _norm(apart, p)
        return length**2 if name == "SQUARED_EUCLIDEAN" else length

    return measured


def cosine_embedding(left: Vector, right: Vector, targets: Any, margin: float = 0) -> Any:
    """PyTorch's documented definition."""
    found = cosine(left, right)
    return 1 - found if targets == 1 else max(0, found - margin)


def contrastive(
    left: Vector, right: Vector, targets: Any, margin: float = 1, distance: Any = None
) -> Any:
    """Hadsell et al. (2006), without the half."""
    found = distance_of(distance)(left, right)
    return found**2 if targets == 1 else max(0, margin - found) ** 2


def triplet(  # noqa: PLR0917 - the inputs and parameters of the loss
    anchor: Vector,
    positive: Vector,
    negative: Vector,
    margin: float = 1,
    distance: Any = None,
    p: float = 2,
    swap: bool = False,  # noqa: FBT001, FBT002 - a parameter of the loss
    eps: float = 1e-6,
) -> Any:
    """PyTorch's documented definition."""
    between = distance_of(distance, p, eps)
    reach = between(anchor, negative)
    if swap:
        reach = min(reach, between(positive, negative))
    return max(0, margin + between(anchor, positive) - reach)


def batch_triplet(  # noqa: PLR0917 - the inputs and parameters of the loss
    embeddings: Sequence[Vector],
    labels: Sequence[int],
    mining: Any = None,
    margin: float = 1,
    distance: Any = None,
    outputs: Any = (),  # noqa: ARG001 - they change nothing
) -> Values:
    """Every triplet by itself."""
    values: Values = []
    for triplets in _triplets(embeddings, labels, mining, distance):
        costs = [max(0, margin + near - far) for (near, _), (far, _) in triplets]
        values.append(sum(costs) / len(costs) if costs else None)
    return values


Way = tuple[Any, int]  # the distance to an example, and its place


def _triplets(
    embeddings: Sequence[Vector], labels: Sequence[int], mining: Any, distance: Any
) -> Iterator[list[tuple[Way, Way]]]:
    """Of each anchor the ways to the positive and the negative of each triplet that counts."""
    between, kind = distance_of(distance), mining.name if mining else "HARD"
    for i, (anchor, label) in enumerate(zip(embeddings, labels, strict=True)):
        ways = [(between(anchor, other), j) for j, other in enumerate(embeddings) if j != i]
        near = [(d, j) for d, j in ways if labels[j] == label]
        far = [(d, j) for d, j in ways if labels[j] != label]
        if not near or not far:
            yield []
        elif kind == "HARD":
            yield [(max(near, key=_distance), min(far))]
        elif kind == "ALL":
            yield [(p, n) for p in near for n in far]
        else:
            farthest = max(far, key=_distance)
            yield [(p, min((n for n in far if n[0] > p[0]), default=farthest)) for p in near]


def _distance(way: Way) -> Any:
    return way[0]


def _mined(side: int) -> Callable[..., list[int]]:
    """The place of the positive (0) or negative (1) of each anchor's hardest triplet."""

    def places(  # noqa: PLR0917 - the inputs and parameters of the loss
        embeddings: Sequence[Vector],
        labels: Sequence[int],
        mining: Any = None,
        margin: float = 1,  # noqa: ARG001 - the same for all triplets
        distance: Any = None,
        outputs: Any = (),  # noqa: ARG001 - they change nothing
    ) -> list[int]:
        found = []
        for triplets in _triplets(embeddings, labels, mining, distance):
            hardest = max(triplets, key=lambda pair: pair[0][0] - pair[1][0], default=None)
            found.append(-1 if hardest is None else hardest[side][1])
        return found

    return places


BATCH_TRIPLET_OUTPUTS: Mapping[str, Callable[..., list[int]]] = {
    "mined_positive": _mined(0),
    "mined_negative": _mined(1),
}


def _similarities(
    left: Sequence[Vector],
    right: Sequence[Vector],
    temperature: Any,
    normalize: bool,  # noqa: FBT001 - a parameter of the losses
) -> list[list[Any]]:
    compare = cosine if normalize else _dot
    return [[compare(x, y) / temperature for y in right] for x in left]


def _lacking(chosen: Any, others: Sequence[Any]) -> Any:
    """-log of the softmax's share of one among others."""
    return mpmath.log(1 + sum(mpmath.exp(other - chosen) for other in others))


def info_nce(  # noqa: PLR0917 - the inputs of the loss
    queries: Sequence[Vector],
    keys: Sequence[Vector],
    negatives: Any = None,
    ids: Sequence[int] | None = None,
    temperature: Any = 0.07,
    symmetric: bool = False,  # noqa: FBT001, FBT002 - a parameter of the loss
    normalize: bool = True,  # noqa: FBT001, FBT002 - a parameter of the loss
    in_batch_negatives: bool = True,  # noqa: FBT001, FBT002 - a parameter of the loss
) -> Values:
    """Van den Oord et al. (2018), query by query."""
    temperature = mpmath.mpf(temperature)
    scores = _similarities(queries, keys, temperature, normalize)

    def one_way(rows: Sequence[Sequence[Any]]) -> Values:
        found = []
        for i, row in enumerate(rows):
            others = [
                s
                for j, s in enumerate(row)
                if in_batch_negatives and j != i and (ids is None or ids[i] != ids[j])
            ]
            if negatives:
                own = negatives[i] if isinstance(negatives[0][0], tuple) else negatives
                others += _similarities([queries[i]], own, temperature, normalize)[0]
            found.append(_lacking(row[i], others))
        return found

    values = one_way(scores)
    if symmetric:
        back = one_way(list(zip(*scores, strict=True)))
        values = [(x + y) / 2 for x, y in zip(values, back, strict=True)]
    return values


def _of_positives(
    embeddings: Sequence[Vector],
    labels: Sequence[int],
    temperature: Any,
    normalize: bool,  # noqa: FBT001 - a parameter of the losses
    *,
    against_all: bool,
) -> Values:
    rows = _similarities(embeddings, embeddings, mpmath.mpf(temperature), normalize)
    values: Values = []
    for i, row in enumerate(rows):
        positives = [j for j in range(len(row)) if j != i and labels[j] == labels[i]]
        costs = [
            _lacking(
                row[p],
                [
                    row[j]
                    for j in range(len(row))
                    if j not in (i, p) and (against_all or labels[j] != labels[i])
                ],
            )
            for p in positives
        ]
        values.append(sum(costs) / len(costs) if costs else None)
    return values


def supervised_contrastive(
    embeddings: Sequence[Vector],
    labels: Sequence[int],
    temperature: Any = 0.07,
    normalize: bool = True,  # noqa: FBT001, FBT002 - a parameter of the loss
) -> Values:
    """Khosla et al. (2020), equation 2."""
    return _of_positives(embeddings, labels, temperature, normalize, against_all=True)


def nt_xent(
    embeddings: Sequence[Vector],
    labels: Sequence[int],
    temperature: Any = 0.07,
    normalize: bool = True,  # noqa: FBT001, FBT002 - a parameter of the loss
) -> Values:
    """Chen et al. (2020), equation 1, without other positives in the denominator."""
    return _of_positives(embeddings, labels, temperature, normalize, against_all=False)


def sigmoid_contrastive(
    queries: Sequence[Vector],
    keys: Sequence[Vector],
    temperature: Any = 0.1,
    bias: Any = -10,
    normalize: bool = True,  # noqa: FBT001, FBT002 - a parameter of the loss
) -> Values:
    """Zhai et al. (2023), pair by pair."""
    scores = _similarities(queries, keys, mpmath.mpf(temperature), normalize)
    return [
        sum(
            mpmath.log(1 + mpmath.exp((s + bias) * (-1 if i == j else 1)))
            for j, s in enumerate(row)
        )
        for i, row in enumerate(scores)
    ]
