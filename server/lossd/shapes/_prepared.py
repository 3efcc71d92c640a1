"""Batches of a few rows that one call of a kernel computes, prepared once for all data.

What is done to each row then follows from the header alone, and the call itself notices whatever
is not as usual in the data: a label that is no class, a number that is not finite or outside its
domain.  Such a batch is computed in the ordinary way, which tells what is wrong.
"""

from dataclasses import dataclass

from lossd.backends import Backend, PreparedCall
from lossd.batch import Job
from lossd.errors import InvalidRequest
from lossd.losses import Content
from lossd.reduction import NonfinitePolicy, RowPlan, plan_rows
from lossd.shapes._by_example import ByExample
from lossd.shapes._lay_out import Laid


@dataclass(frozen=True, slots=True)
class PreparedBatch:
    """The call for all batches of a plan, and what is done to the rows of each."""

    call: PreparedCall
    rows: RowPlan


def prepare(job: Job, laid: Laid, backend: Backend) -> PreparedBatch | None:
    """Prepares the call for jobs like one; None where their data decides more than results."""
    rules, template = laid.rules, laid.template
    if not isinstance(rules, ByExample) or not (template.rows and backend.in_cache):
        return None
    if not rules.is_brief(laid.layout) or _looks_at_data(job, laid) or not _lies_in_order(laid):
        return None
    made = backend.over_rows(template, rules.body(template, backend)).prepare
    rows = None if made is None else _rows(job, template.rows)
    if made is None or rows is None:
        return None
    elements = template.length if rules.is_mean_of_elements else 1
    dtypes = [array.dtype for array in laid.arrays(job) if array is not None]
    call = made(dtypes, float(rows.gradient_scale) / elements, elements)
    return None if call is None else PreparedBatch(call, rows)


def _looks_at_data(job: Job, laid: Laid) -> bool:
    """Returns whether what is done to a row, or written for it, follows from the data."""
    loss, parameters = job.loss, laid.parameters
    given = (job.weights, job.mask, job.cotangent, parameters.get("ignore_index"))
    return (
        any(one is not None for one in given)
        or len(parameters.get("class_weights", ())) > 0
        or loss.ignores is not None
        or loss.mean_factor is not None
        or job.nonfinite is NonfinitePolicy.ZERO
    )


def _lies_in_order(laid: Laid) -> bool:
    """Returns whether all inputs are given, and a kernel can read them as they are."""
    return None not in laid.sources and not any(
        slot.is_moved or slot.input.content is Content.LABELS for slot in laid.slots
    )


def _rows(job: Job, count: int) -> RowPlan | None:
    """Returns what is done to rows that all count alike; None if the request breaks a rule."""
    try:
        return plan_rows(
            count,
            ignored=None,
            weights=None,
            denominators=None,
            cotangent=1.0,
            reduction=job.reduction,
            normalizer=job.normalizer,
        )
    except InvalidRequest:  # which is told after what is wrong with the data
        return None
