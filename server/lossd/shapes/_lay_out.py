"""Makes a batch of a job: everything a caller can get wrong is found here, before any computing.

The one exception is the domain of floating-point targets (probabilities below 0, say), which may be
checked piece by piece so that targets are read once; they are never used as an index.
"""

from lossd.batch import (
    Batch,
    Given,
    Job,
    body_parameters,
    complete,
    compute_type,
    named_arrays,
    wanted_gradients,
)
from lossd.networks import Networks
from lossd.shapes._table import rules_of

NO_NETWORKS = Networks()


def lay_out(job: Job, networks: Networks = NO_NETWORKS) -> Batch:
    """Checks a job and lays it out.

    Raises:
        InvalidRequest: or one below it, naming the thing, the rule and the value.
        TooLarge: for images that would take too much memory inside a network.
    """
    rules = rules_of(job.loss)
    parameters = complete(job)
    arrays = named_arrays(job)
    layout = rules.lay_out(Given(job.loss, arrays, parameters, networks))
    operands = tuple([
        slot.under(parameters).filled(arrays.get(slot.name)) for slot in layout.slots
    ])  # fmt: skip
    plan = rules.plan(job, layout, operands, parameters)
    dtype = compute_type(arrays)
    batch = Batch(
        loss=job.loss,
        parameters=body_parameters(job.loss, parameters, layout, dtype),
        operands=rules.checked(job.loss, operands, plan.silent, parameters),
        example_shape=layout.example_shape,
        rows=layout.rows,
        length=layout.length,
        dtype=dtype,
        plan=plan,
        gradients=wanted_gradients(job, operands),
        outputs=tuple(member.value for member in parameters.get("outputs", ())),
        parts=layout.parts,
        view=layout.view,
    )
    if not batch.rows:
        rules.check_rules(batch)
    return batch
