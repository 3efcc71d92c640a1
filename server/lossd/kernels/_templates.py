"""The templates that texts stand in, on the GPU and on the host: one a shape that has texts."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lossd.kernels._launch import (
    KEPT,
    SEGMENT_COLUMNS,
    SHARED_BYTES,
    WORKSPACE,
    Argument,
    Kind,
    Launch,
    keeping_rows,
    launch_classes,
    launch_elements,
    launch_means,
    launch_rows,
    launch_sequences,
    launch_tokens,
)
from lossd.losses import Axes, Content, CudaText, Loss, Shape


@dataclass(frozen=True, slots=True)
class Size:
    """The size of a batch, on which its launch depends.

    A row of ``length`` numbers has ``parts`` of equal lengths, and perhaps ``labels``.
    ``stored_bytes`` are those of an element of each input, and ``most_bytes`` are the most shared
    memory that a block may have.
    """

    rows: int
    length: int
    parts: int
    labels: int
    stored_bytes: tuple[int, ...]
    most_bytes: int = SHARED_BYTES

    @property
    def width(self) -> int:
        """Elements of the first input in 128 bits."""
        return 16 // self.stored_bytes[0]


@dataclass(frozen=True, slots=True)
class Template:
    """The files NAME.cuh, host/NAME.hpp and host/NAME_text.hpp, and what a text is in them.

    ``evaluate`` has the parameters of the CUDA function whose body a text is, ``arguments`` what
    the kernel takes after those that all have, and ``shared`` files that both devices compile.
    """

    name: str
    evaluate: str
    launch: Callable[[tuple[str, ...], Size], Launch]
    entry_points: tuple[str, ...] = ("rows",)
    arguments: tuple[Argument, ...] = ()
    shared: tuple[str, ...] = ()
    takes_long: bool = False  # whether a block takes longer for a row than to send it takes
    gives_statuses: bool = False
    checks_domains: bool = False  # whether it can flag rows with a number outside its domain
    checks_on_host: bool = True  # whether its file on the host does
    types: tuple[str, ...] = ("float", "double")  # that it computes in, on the host
    call: str = "Call"  # what it is called with there
    knows_choices: bool = False  # whether a text knows the parameters that are members of enums
    unknown: tuple[Content, ...] = ()  # the inputs that no text knows
    functions: tuple[str, ...] = ()  # of its file on the host, that are called beside texts
    counts_narrowly: bool = False  # columns there, in integers as wide as the numbers


def _launch_elements_or_rows(names: tuple[str, ...], size: Size) -> Launch:
    elements, *of_rows = names
    if size.length == 1:
        return launch_elements(elements, size.rows, size.width)
    return launch_means(tuple(of_rows), size.rows, size.length)


def _launch_rows(names: tuple[str, ...], size: Size) -> Launch:
    return launch_rows(names[0], size.rows, size.length)


def _launch_kept_rows(names: tuple[str, ...], size: Size) -> Launch:
    return keeping_rows(
        _launch_rows(names, size),
        size.length,
        width=size.width,
        column_bytes=sum(size.stored_bytes),
        most_bytes=size.most_bytes,
    )


def _launch_classes(names: tuple[str, ...], size: Size) -> Launch:
    classes = size.parts
    return launch_classes(names, size.rows, classes, size.length // classes)


def _launch_sequences(names: tuple[str, ...], size: Size) -> Launch:
    classes = size.length // size.parts if size.parts else 0
    return launch_sequences(names[0], size.rows, size.parts, classes, size.labels)


def _launch_tokens(names: tuple[str, ...], size: Size) -> Launch:
    return launch_tokens(names[0], size.rows)


REGIONWISE = Template(
    "regionwise",
    "const Region& region, T& value",
    _launch_kept_rows,
    arguments=(KEPT,),
    shared=("overlaps.hpp",),
    checks_domains=True,
)
CLASSWISE = Template(
    "classwise",
    "const Regions& regions, T& value",
    _launch_classes,
    entry_points=("rows", "counts", "sums", "slopes"),
    arguments=(Argument("parts", Kind.COUNT), SEGMENT_COLUMNS, WORKSPACE),
    shared=("overlaps.hpp", "class_overlaps.hpp"),
    takes_long=True,
    checks_domains=True,
    knows_choices=True,
)
VECTORWISE = Template(
    "vectorwise",
    "const Row& row, const T target, T& value",
    _launch_rows,
    arguments=(
        Argument("statuses", Kind.ARRAY),
        Argument("second_gradient", Kind.ARRAY),
        Argument("third_gradient", Kind.ARRAY),
    ),
    shared=("vectors.hpp",),
    gives_statuses=True,
    checks_domains=True,
)

TEMPLATES: Mapping[Shape, Template] = {
    Shape.POINTWISE: Template(
        "pointwise",
        "const T prediction, const T target, const long long column, T& value, T& gradient OTHERS",
        _launch_elements_or_rows,
        entry_points=("elements", "rows", "segments", "sums"),
        arguments=(SEGMENT_COLUMNS, WORKSPACE),
        checks_domains=True,
    ),
    Shape.ROWWISE: Template(
        "rowwise",
        "const Row& row, const long long columns, const long long label, T& value",
        _launch_kept_rows,
        arguments=(KEPT,),
        checks_domains=True,
        counts_narrowly=True,
    ),
    Shape.SEQUENCE: Template(
        "sequence",
        "const Example& sequence, T& value",
        _launch_sequences,
        arguments=(
            Argument("parts", Kind.COUNT),
            Argument("labels", Kind.COUNT),
            Argument("statuses", Kind.ARRAY),
            WORKSPACE,
        ),
        shared=("alignments.hpp",),
        takes_long=True,
        gives_statuses=True,
        checks_domains=True,
        checks_on_host=False,
    ),
    # No backend launches tokenwise.cuh yet: losses of tokens are computed on the host, and tests
    # alone compile and run it.
    Shape.TOKENS: Template(
        "tokenwise",
        "const Sequence& tokens, T& value",
        _launch_tokens,
        arguments=(
            Argument("starts", Kind.ARRAY),
            Argument("sizes", Kind.ARRAY),
            Argument("lengths", Kind.ARRAY),
            Argument("mask", Kind.ARRAY),
            Argument("shares", Kind.ARRAY),
            Argument("by_sequence", Kind.COUNT),
        ),
        shared=("tokens.hpp",),
        types=("double",),
        call="TokenCall",
        knows_choices=True,
        unknown=(Content.FLAGS, Content.LENGTHS, Content.OFFSETS, Content.LABELS),
        functions=("add_up",),
    ),
    Shape.VECTORS: VECTORWISE,
    Shape.REGIONWISE: REGIONWISE,
}


def template_of(loss: Loss, text: CudaText | None = None) -> Template | None:
    """Returns the template for a text of a loss; None if there is none for its shape.

    One tensor of regions, with nothing to compare it with, is a vector an example.
    """
    if text is not None and text.has_class_axis:
        return CLASSWISE
    found = TEMPLATES.get(loss.shape)
    return VECTORWISE if found is REGIONWISE and len(loss.inputs) == 1 else found


def takes_long(loss: Loss, text: CudaText) -> bool:
    """Returns whether a block takes longer to compute a row than the row takes to get there."""
    template = template_of(loss, text)
    return template is not None and template.takes_long


def kept_bytes(text: CudaText, row: Sequence[int]) -> int:
    """Returns the memory that a row of this shape keeps to itself until its tile is done.

    Only one in segments does; others work in that of their block, one after the other.  Of single
    numbers it is too little to count.
    """
    if not text.has_class_axis:
        return 0
    classes, *positions = row
    launch = launch_classes(CLASSWISE.entry_points, 1, classes, math.prod(positions))
    return launch.workspace_bytes if launch.is_in_segments else 0


def gradients_of(loss: Loss) -> tuple[str, ...]:
    """Returns the inputs with respect to which the texts of a loss write gradients."""
    if template_of(loss) is VECTORWISE:
        return vectors_of(loss)
    return (loss.inputs[0].name,)


def vectors_of(loss: Loss) -> tuple[str, ...]:
    """Returns the inputs of a loss that hold vectors."""
    return tuple(i.name for i in loss.inputs if i.axes is Axes.ELEMENTS)
