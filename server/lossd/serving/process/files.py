"""The number of files that the process may have open: its connections are most of them."""

import logging
import resource

log = logging.getLogger(__name__)

# What is open beside connections and segments: libraries, threads, pages and those who ask for
# them.
_OTHERS = 400
_OF_A_SEGMENT = 2  # its file and its mapping
_MOST = 2**31 - 1  # that gRPC can be told


def open_as_many_as_may_be() -> int:
    """Raises the limit to what the system lets the process have; returns it.

    Many systems start a process with 1024, for the sake of programs that use ``select``.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):  # no limit, where the system has one of its own
        return soft
    log.info("more files may be open", extra={"most": hard, "before": soft})
    return hard


def connections_beside(segments: int) -> int:
    """Returns how many connections leave files for ``segments`` and for all else; 0 for any number.

    At least half of all files are for connections.
    """
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most == resource.RLIM_INFINITY:
        return 0
    return min(max(most - _OTHERS - _OF_A_SEGMENT * segments, most // 2), _MOST)
