"""Parts that declarations of losses and of metrics share: parameters, bounds, documentation."""

import enum
import functools
import importlib
import inspect
import math
import pkgutil
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from types import MappingProxyType, NoneType, UnionType
from typing import Annotated, Any, TypeVar, get_args, get_origin

Array = Any  # NumPy's or CuPy's ndarray
Declared = TypeVar("Declared")


class ParameterError(ValueError):
    """A parameter breaks its rule; ``parameter`` is its name."""

    def __init__(self, parameter: str, message: str) -> None:
        super().__init__(message)
        self.parameter = parameter


def exactly(number: float) -> str:
    """Returns a number as text that tells it from every other one of its type: 1000001, 0.1."""
    if isinstance(number, Integral):
        return str(int(number))
    return repr(float(number)).removesuffix(".0")


@dataclass(frozen=True, slots=True)
class Interval:
    """A range of numbers.  NaN is outside of every range, unless it counts as ordinary data."""

    low: float
    high: float
    low_open: bool = False
    high_open: bool = False
    has_nan: bool = False

    def __contains__(self, value: float) -> bool:
        above = self.low < value if self.low_open else self.low <= value
        below = value < self.high if self.high_open else value <= self.high
        return above and below

    def outside(self, values: Array) -> Array:
        """Returns for each element of an array whether it is outside."""
        above = values > self.low if self.low_open else values >= self.low
        below = values < self.high if self.high_open else values <= self.high
        wrong = ~(above & below)
        return wrong & (values == values) if self.has_nan else wrong  # noqa: PLR0124 - NaN is not

    def __str__(self) -> str:
        opening, closing = "[("[self.low_open], "])"[self.high_open]
        return f"{opening}{exactly(self.low)}, {exactly(self.high)}{closing}"


@dataclass(frozen=True, slots=True)
class Choices:
    """A few numbers, of which a parameter is one; NaN is none of them."""

    numbers: tuple[float, ...]

    def __contains__(self, value: float) -> bool:
        return value in self.numbers

    def outside(self, values: Array) -> Array:
        """Returns for each element of an array whether it is none of the choices."""
        first, *others = self.numbers
        found = values != first
        for number in others:
            found &= values != number
        return found

    def __str__(self) -> str:
        return f"{{{', '.join(map(exactly, self.numbers))}}}"


class Differentiable(enum.Enum):
    """Whether there is a gradient with respect to an input or a parameter, and by default."""

    NO = "no"
    ON_REQUEST = "on request"
    BY_DEFAULT = "by default"


POSITIVE = Interval(0, math.inf, low_open=True, high_open=True)
NONNEGATIVE = Interval(0, math.inf, high_open=True)
AT_LEAST_1 = Interval(1, math.inf, high_open=True)
UNIT = Interval(0, 1)
INSIDE_UNIT = Interval(0, 1, low_open=True, high_open=True)
# Between these bounds float32 has all of its digits.
FLOAT32_LOW, FLOAT32_HIGH = 2.0**-126, 2.0**127
FINITE = Interval(-math.inf, math.inf, low_open=True, high_open=True)
INTEGERS = Interval(-(2**63), 2**63 - 1)

Vector = Sequence[float]
Names = Sequence[str]
Members = type[enum.Enum]


class Required(enum.Enum):
    """The marker in place of a default, for a parameter that has none."""

    REQUIRED = "required"


REQUIRED = Required.REQUIRED


@dataclass(frozen=True)
class Parameter:
    """One parameter of a loss: a number, a text, a member of an enum, or a list of one of these.

    A default of None means "unset", which differs from every number; REQUIRED means no default.
    """

    # Without slots, so that what follows from the type is computed once: every call needs it.

    name: str
    type: type
    default: Any
    bounds: Interval | None = None
    differentiable: Differentiable = Differentiable.NO

    @functools.cached_property
    def is_vector(self) -> bool:
        """Whether it is a list of numbers, empty for none."""
        return self.type == Vector

    @functools.cached_property
    def is_list(self) -> bool:
        """Whether it is a list: of numbers, of texts, or of members of an enum."""
        return get_origin(self.type) is get_origin(Vector)

    @functools.cached_property
    def is_text(self) -> bool:
        """Whether it is a text or a list of texts, empty for none."""
        return self.type is str or self.type == Names

    @functools.cached_property
    def choices(self) -> Members | None:
        """The enum that it, or each entry of a list, is a member of."""
        member = get_args(self.type)[0] if self.is_list else self.type
        return member if issubclass(member, enum.Enum) else None

    def is_beyond_float32(self, value: Any) -> bool:
        """Returns whether it has a number that float32 cannot hold with all its digits."""
        if self.type is float:
            return bool(value) and not FLOAT32_LOW <= abs(value) <= FLOAT32_HIGH
        if not self.is_vector or value is None or not len(value):
            return False
        numbers = value.tolist() if hasattr(value, "tolist") else value
        return any(n and not FLOAT32_LOW <= abs(n) <= FLOAT32_HIGH for n in numbers)

    def checked(self, value: Any) -> Any:
        """Returns the value, or raises ParameterError if it is out of bounds."""
        if self.is_vector:
            for i, v in enumerate(() if self._are_in_bounds(value) else value):
                self._in_bounds(f"{self.name}[{i}]", v)
            return tuple(value)
        if self.bounds is None or value is None:
            # A member that is given twice counts once.
            return tuple(dict.fromkeys(value)) if self.is_list else value
        return self._in_bounds(self.name, value)

    def _are_in_bounds(self, values: Sequence[float]) -> bool:
        """Returns whether all are, or there are none; one by one a million takes 0.3 s."""
        return len(values) == 0 or (
            not any(map(math.isnan, values))
            and self.bounds is not None
            and min(values) in self.bounds
            and max(values) in self.bounds
        )

    def _in_bounds(self, thing: str, value: float) -> float:
        if self.bounds is not None and value not in self.bounds:
            raise ParameterError(
                self.name, f"{thing} must be in {self.bounds}, got {exactly(value)}"
            )
        return value


def completed(
    message: str, known: Mapping[str, Parameter], given: Mapping[str, Any]
) -> dict[str, Any]:
    """Fills in the defaults of what ``message`` takes, and checks bounds.

    Raises:
        ParameterError: for a parameter that is unknown, missing or out of bounds.
    """
    for name, value in given.items():
        if name not in known:
            raise ParameterError(name, f"{name} must be a parameter of {message}, got {value!r}")
    found = {}
    for name, parameter in known.items():
        if name in given:
            found[name] = parameter.checked(given[name])
        elif parameter.default is REQUIRED:
            raise ParameterError(name, f"{name} must be given for {message}, got nothing")
        else:
            found[name] = parameter.default
    return found


def parameters_of(body: Callable[..., object]) -> tuple[Parameter, ...]:
    """Returns the keyword-only parameters of a body, whose annotations are their schema."""
    found = []
    for item in inspect.signature(body).parameters.values():
        if item.kind is not item.KEYWORD_ONLY:
            continue
        if get_origin(item.annotation) is Annotated:
            annotated, bounds, *differentiable = get_args(item.annotation)
        else:
            annotated, bounds, differentiable = item.annotation, None, []
        if isinstance(annotated, UnionType):  # a number or None, for unset
            annotated = next(kind for kind in get_args(annotated) if kind is not NoneType)
        found.append(Parameter(item.name, annotated, item.default, bounds, *differentiable))
    return tuple(found)


def documentation(body: Callable[..., object]) -> tuple[str, str, str]:
    """Returns the summary line, the first indented block and the text after "Reference:"."""
    text = inspect.cleandoc(body.__doc__ or "")
    formula = re.search(r"(?:^    .*\n?)+", text, re.MULTILINE)
    reference = re.search(r"^Reference:\s*(.*)", text, re.MULTILINE | re.DOTALL)
    if not formula or not reference:
        raise TypeError(f"{body.__name__} must document its formula and reference")
    lines = " ".join(reference[1].split())
    return text.splitlines()[0], textwrap.dedent(formula[0]).rstrip(), lines


def element(name: str, index: int, shape: Sequence[int]) -> str:
    """Names an element of an array by its flat index: ``targets[1, 0]``; a number has no index."""
    positions = []
    for size in reversed(shape):
        index, position = divmod(index, size)
        positions.append(str(position))
    return f"{name}[{', '.join(reversed(positions))}]" if positions else name


def message_name(name: str) -> str:
    """Returns the name of its protobuf message: ``CrossEntropy`` for ``cross_entropy``."""
    return "".join(word.capitalize() for word in name.split("_"))


def catalogue(
    package: str, path: Iterable[str], kind: type[Declared], thing: str
) -> Mapping[str, Declared]:
    """Returns what the modules of a package declare, by name: ``huber.py`` declares ``huber``.

    Modules whose names begin with an underscore are skipped.

    Raises:
        TypeError: if a module declares something else.
    """
    found = {}
    for name in sorted(module.name for module in pkgutil.iter_modules(path)):
        if name.startswith("_"):
            continue
        declared = getattr(importlib.import_module(f"{package}.{name}"), name, None)
        if not isinstance(declared, kind):
            raise TypeError(
                f"{package}.{name} must declare a {thing} named {name}, got {declared!r}"
            )
        found[name] = declared
    return MappingProxyType(found)
