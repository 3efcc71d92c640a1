"""Who calls, and what a caller may do."""

import enum
from dataclasses import dataclass


class Group(enum.StrEnum):
    """Methods that are granted together."""

    COMPUTE = "compute"
    EVALUATE = "evaluate"
    SHARED_MEMORY = "shared_memory"
    INFORMATION = "information"
    REFLECTION = "reflection"


EVERYTHING = frozenset(Group)
# Files are shared on one host, and the directory's name is nobody else's business.
FROM_ELSEWHERE = EVERYTHING - {Group.SHARED_MEMORY}


THIS_HOST = "this host"  # the key of its callers without a name


@dataclass(frozen=True, slots=True)
class Quotas:
    """The quotas of one caller; None for what the settings say."""

    calls: int | None = None
    inflight_bytes: int | None = None
    calls_per_second: float | None = None
    shm_segments: int | None = None
    device_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who calls.

    ``name`` is empty where nobody has to say it, and then ``host`` tells callers apart, which is
    empty for this one.
    """

    name: str = ""
    host: str = ""
    groups: frozenset[Group] = EVERYTHING
    quotas: Quotas = Quotas()

    def may(self, group: Group) -> bool:
        """Returns whether methods of a group were granted."""
        return group in self.groups

    @property
    def key(self) -> str:
        """The key that quotas are counted by.

        It is empty for callers of this host without a name, unless they have quotas, together.
        """
        if self.name:
            return f"name:{self.name}"
        return self.host or (THIS_HOST if self.quotas != Quotas() else "")


HERE = Caller()
