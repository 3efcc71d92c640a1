"""How much a call counts that its caller dropped, with ``resets``."""

from lossd.serving.call import Call, Context
from lossd.serving.rpc.resets import SEEN, SILENT, UNSEEN


def weight_of(call: Call) -> int:
    """Returns how much a call counts that its caller dropped.

    A caller that has made a request may think better of it, and one that was sent away for silence
    did not drop the call.
    """
    is_common = call.has_spoken or call.gave_way or _is_late(call.context)
    return SEEN if is_common else SILENT


def weight_unseen(context: Context, *, has_waited: bool) -> int:
    """Returns how much a call counts that was over before a thread looked at it.

    It was reset, unless its time had passed, as that of many may have after a pause of the process,
    or it had to wait in line.
    """
    return SEEN if has_waited or _is_late(context) else UNSEEN


def _is_late(context: Context) -> bool:
    left = context.time_remaining()
    return left is not None and left <= 0
