"""Triplet loss."""

from typing import Annotated, Any

import numpy as np

from lossd.losses._body import BodyResult
from lossd.losses._declare import CudaText, Example, Shape, loss
from lossd.losses._inputs import Input
from lossd.losses._maths.vectors import (
    KERNEL_DISTANCES,
    Distance,
    beyond,
    distances,
    each_component,
    zero_norms,
)
from lossd.schema import NONNEGATIVE, Array, Differentiable, Interval, ParameterError, exactly

EPS = 1e-6


def _distance_to_kinks(
    anchor: Array,
    positive: Array,
    negative: Array,
    *,
    margin: float = 1,
    distance: Distance = Distance.EUCLIDEAN,
    p: float = 2,
    swap: bool = False,
    eps: float = EPS,
) -> Array:
    """Returns the distance to the nearest kink: value 0, equal negative distances, equal points."""

    def between(one: Array, other: Array) -> Array:
        return distances(np, one, other, distance, p=p, eps=eps).value

    near, far, across = (
        between(anchor, positive),
        between(anchor, negative),
        between(positive, negative),
    )
    reach = np.minimum(far, across) if swap else far
    found = np.minimum.reduce([abs(margin + near - reach), near, far, across])
    found = np.minimum(found, abs(far - across)) if swap else found
    return each_component(found, anchor)


def _text(distance: Distance, name: str) -> CudaText:
    return CudaText(
        f"""
        const auto near = {name}::between(row, First{{}}, Second{{}}, eps);
        const auto far = {name}::between(row, First{{}}, Third{{}}, eps);
        const auto lost = [&](double excess) {{
            const double found = margin + excess;
            return found <= 0 ? 0.0 : found;
        }};
        double found = lost(beyond(near, far));
        const bool may_be_one = near.value() == far.value();
        const double apart = !may_be_one ? 1 : row.sums(
            AT_PLACE(x.first == x.second && x.first == x.third ? 0.0 : 1.0)).items[0];
        bool is_swapped = false;
        if (swap != 0) {{
            const auto across = {name}::between(row, Second{{}}, Third{{}}, eps);
            is_swapped = beyond(across, far) < 0;
            if (is_swapped) {{
                found = lost(beyond(near, across));
                const double on = found != 0 && apart != 0 ? 1 : 0;
                row.write(AT_PLACE(weighed(on, near.by_left(x))),
                          AT_PLACE(weighed(on, near.by_right(x) - across.by_left(x))),
                          AT_PLACE(weighed(on, -across.by_right(x))));
            }}
        }}
        value = T(found);
        if (near.has_zero() || far.has_zero()) row.note(ZERO_NORM);
        if (!is_swapped) {{
            const double on = found != 0 && apart != 0 ? 1 : 0;
            row.write(AT_PLACE(weighed(on, near.by_left(x) - far.by_left(x))),
                      AT_PLACE(weighed(on, near.by_right(x))),
                      AT_PLACE(weighed(on, -far.by_right(x))));
        }}
        """,
        when={"distance": distance, "p": 2.0},
    )


@loss(
    Shape.VECTORS,
    cuda=tuple(_text(distance, name) for distance, name in KERNEL_DISTANCES.items()),
    inputs=(
        Input("anchor", "an embedding", differentiable=Differentiable.BY_DEFAULT),
        Input("positive", "one to be near it", differentiable=Differentiable.BY_DEFAULT),
        Input("negative", "one to be far from it", differentiable=Differentiable.BY_DEFAULT),
    ),
    examples=(
        # Distances 5 and 13.
        Example(
            {"anchor": [[0.0, 0.0]], "positive": [[3.0, 4.0]], "negative": [[5.0, 12.0]]},
            parameters={"margin": 10.0, "eps": 0.0},
            value=2.0,
            gradients={
                "anchor": [[-3 / 5 + 5 / 13, -4 / 5 + 12 / 13]],
                "positive": [[3 / 5, 4 / 5]],
                "negative": [[-5 / 13, -12 / 13]],
            },
        ),
        # The negative is nearer to the positive, by 2 and 8: a distance of sqrt 68.
        Example(
            {"anchor": [[0.0, 0.0]], "positive": [[3.0, 4.0]], "negative": [[5.0, 12.0]]},
            parameters={"margin": 10.0, "eps": 0.0, "swap": True},
            value=15 - 68**0.5,
            gradients={
                "anchor": [[-3 / 5, -4 / 5]],
                "positive": [[3 / 5 + 2 / 68**0.5, 4 / 5 + 8 / 68**0.5]],
                "negative": [[-2 / 68**0.5, -8 / 68**0.5]],
            },
        ),
        Example(
            {"anchor": [[0.0, 0.0]], "positive": [[3.0, 4.0]], "negative": [[5.0, 12.0]]},
            parameters={"margin": 10.0, "eps": 0.0, "p": 1.0},
            value=0.0,
            gradients={"anchor": [[0.0, 0.0]]},
        ),
        Example(
            {"anchor": [[1.0]], "positive": [[3.0]], "negative": [[0.0]]},
            parameters={"distance": Distance.SQUARED_EUCLIDEAN, "eps": 0.0},
            value=4.0,
            gradients={"anchor": [[-6.0]], "positive": [[4.0]], "negative": [[2.0]]},
        ),
        # Distances 2/5 and 0.
        Example(
            {"anchor": [[5.0, 0.0]], "positive": [[3.0, 4.0]], "negative": [[1.0, 0.0]]},
            parameters={"distance": Distance.COSINE},
            value=1.4,
            gradients={
                "anchor": [[0.0, -0.16]],
                "positive": [[-0.128, 0.096]],
                "negative": [[0.0, 0.0]],
            },
        ),
        # At the margin: distances 5 and 6.
        Example(
            {"anchor": [[0.0, 0.0]], "positive": [[3.0, 4.0]], "negative": [[0.0, 6.0]]},
            parameters={"eps": 0.0},
            value=0.0,
            gradients={
                "anchor": [[0.0, 0.0]],
                "positive": [[0.0, 0.0]],
                "negative": [[0.0, 0.0]],
            },
        ),
        # The negative is the anchor: its distance sqrt 3 eps still has the gradient 1 / sqrt 3.
        Example(
            {
                "anchor": [[0.0, 0.0, 0.0]],
                "positive": [[2.0, 2.0, 2.0]],
                "negative": [[0.0, 0.0, 0.0]],
            },
            parameters={"margin": 3.0, "eps": 0.5},
            value=3 + (1.5 - 0.5) * 3**0.5,
            gradients={
                "anchor": [[-2 / 3**0.5] * 3],
                "positive": [[1 / 3**0.5] * 3],
                "negative": [[1 / 3**0.5] * 3],
            },
        ),
        # Without eps the distance 0 has the gradient 0.
        Example(
            {"anchor": [[0.0, 0.0]], "positive": [[3.0, 4.0]], "negative": [[0.0, 0.0]]},
            parameters={"eps": 0.0},
            value=6.0,
            gradients={
                "anchor": [[-0.6, -0.8]],
                "positive": [[0.6, 0.8]],
                "negative": [[0.0, 0.0]],
            },
        ),
        # Three equal points: the margin.
        Example(
            {"anchor": [[1.0, 2.0]], "positive": [[1.0, 2.0]], "negative": [[1.0, 2.0]]},
            value=1.0,
            gradients={
                "anchor": [[0.0, 0.0]],
                "positive": [[0.0, 0.0]],
                "negative": [[0.0, 0.0]],
            },
        ),
    ),
    kinks=dict.fromkeys(("anchor", "positive", "negative"), _distance_to_kinks),
)
def triplet(
    xp: Any,
    anchor: Array,
    positive: Array,
    negative: Array,
    *,
    margin: Annotated[float, NONNEGATIVE] = 1.0,
    distance: Distance = Distance.EUCLIDEAN,
    p: Annotated[float, Interval(1, np.inf)] = 2.0,
    swap: bool = False,
    eps: Annotated[float, NONNEGATIVE] = EPS,
) -> BodyResult:
    """Hinge that wants each anchor closer to its positive than to its negative by a margin.

        value = max(0, margin + d(a, p) - d(a, n)),  d(u, v) = |u - v + eps| in the p-norm
        gradient = d'(a, p) - d'(a, n) where the value is positive
        0 at the kink, for a distance of 0, and where all three points are equal

    d' is the gradient of d with its eps; for two equal points it is that of |eps|.  Three equal
    points would be moved along a diagonal by eps alone, so there the gradient is 0.  ``swap`` takes
    the smaller of d(a, n) and d(p, n); among equals the first.  SQUARED_EUCLIDEAN is the square of
    d, COSINE one minus the cosine, with which a vector of zeros is at the distance 1 of all others
    with gradient 0, and its example has the status ZERO_NORM.

    Reference: V. Balntas et al., Learning local feature descriptors with triplets and shallow
    convolutional neural networks, 2016, section 2; F. Schroff et al., FaceNet, 2015, section 3.1.
    """
    if distance is not Distance.EUCLIDEAN and p != 2:
        raise ParameterError("p", f"p must be 2 unless the distance is EUCLIDEAN, got {exactly(p)}")
    if distance is Distance.COSINE and eps != EPS:
        raise ParameterError(
            "eps", f"eps must be {exactly(EPS)} with the distance COSINE, got {exactly(eps)}"
        )
    near = distances(xp, anchor, positive, distance, p=p, eps=eps)
    far = distances(xp, anchor, negative, distance, p=p, eps=eps)
    excess, is_swapped = beyond(near, far), xp.zeros(len(anchor), bool)
    if swap:
        across = distances(xp, positive, negative, distance, p=p, eps=eps)
        is_swapped = beyond(across, far) < 0
        excess = xp.where(is_swapped, beyond(near, across), excess)
    value = xp.maximum(margin + excess, 0)
    are_one = ((anchor == positive) & (anchor == negative)).all(axis=-1)
    is_active = ((value != 0) & ~are_one)[:, None]  # also where it is NaN
    by_anchor, by_positive = (
        xp.where(is_active, derivative, 0) for derivative in near.derivatives()
    )
    from_anchor, by_negative = far.derivatives()
    by_anchor = by_anchor - xp.where(is_active & ~is_swapped[:, None], from_anchor, 0)
    if swap:
        from_positive, instead = across.derivatives()
        by_positive = by_positive - xp.where(is_active & is_swapped[:, None], from_positive, 0)
        by_negative = xp.where(is_swapped[:, None], instead, by_negative)
    return BodyResult(
        value.astype(anchor.dtype),
        {
            "anchor": by_anchor,
            "positive": by_positive,
            "negative": xp.where(is_active, -by_negative, 0),
        },
        statuses=zero_norms(xp, near, far),
    )
