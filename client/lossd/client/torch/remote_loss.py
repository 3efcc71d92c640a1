"""``RemoteLoss``: a loss that a lossd server computes, as a module of PyTorch."""

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Self

import torch
from torch import nn

from lossd.client import arguments, kinds
from lossd.client.errors import InvalidRequestError
from lossd.client.hints import AnyLoss, EmptyPolicy, NonfinitePolicy, Reduction
from lossd.client.reaching import Allowance, client_of
from lossd.client.result import LossResult  # noqa: TC001 - a type hint that may be asked for
from lossd.client.sync import LossClient
from lossd.client.torch.forward_pass import ForwardPass, Settings
from lossd.client.torch.learnable import number_of
from lossd.client.torch.tensors import first_tensor, gathered
from lossd.client.torch.translations import PreparedInputs, Translation, translated
from lossd.client.torch.workers import DENOMINATORS, HeldGroup, Workers, checked_group


class RemoteLoss(nn.Module):
    """Computes a loss on a lossd server, differentiably.

        criterion = RemoteLoss(CrossEntropy(label_smoothing=0.1), "dns:///lossd:50051")
        loss = criterion(logits, labels)
        loss.backward()

    The server computes loss and gradients in one call of the forward pass; the backward pass only
    multiplies them.  Under ``reduction="none"`` the value is a vector, and the backward pass makes
    a second call, since only then the upstream gradient of each example is known.

    Inputs that require gradients get them; where gradients are off (``torch.no_grad``), none are
    computed.  Integer inputs, targets and the like pass through.  The loss is float32, or float64
    if an input is; gradients have the type and device of their input.

    *Mixed precision.*  A gradient in float16 that is rounded before it is multiplied by the scale
    of a ``GradScaler`` is mostly 0, so float16 inputs that need a gradient are sent as float32
    and their gradients rounded last.  To send float16 instead, half the bytes, give the scaler as
    ``gradient_scale``: its scale then goes into the call, where gradients are still float32.
    bfloat16 has the range of float32 and is sent as it is.

    *Distributed data parallel* averages gradients over workers, which is right only if all
    batches are equal.  With ``process_group`` the denominators of all workers are summed, so that
    gradients are those of one process with the whole batch.  A normalizer is then the count over
    all workers.

    The module can be pickled, deep-copied and saved with a model; the copy connects anew.  A group
    of ``torch.distributed`` is shared by copies, and not pickled.
    ``torch.compile`` breaks the graph at the call.  Second derivatives are refused.

    Args:
        loss: The loss with its parameters, the name of one with its defaults, or losses and their
            weights from ``weighted_sum``.
        client: A client, or the address for one, which is made when the module is first called.
        reduction: "mean", "batch_mean", "sum" or "none", as for ``LossClient.compute``.
        normalizer: Divisor in place of the one that a mean would use.
        empty: How to handle a batch without examples: "zero", "nan" or "error".
        nonfinite: How to handle examples that are not finite: "propagate", "zero" or "error".
        lint: Whether to look for common mistakes in each batch, as for ``LossClient.compute``.
        learnable: Names of numbers among the loss's parameters that are trained, such as
            "temperature"; each becomes an ``nn.Parameter`` of that name.
        gradient_scale: A ``GradScaler``, or the number that the loss will be multiplied by.
        process_group: Workers to normalise over: a group of ``torch.distributed``, or True for
            all.  The reduction has to be a mean.
        timeout: Seconds that a call may take, retries included; None for the client's.

    Attributes:
        last: The whole result of the last call, None before the first.

    Raises:
        InvalidRequestError: if the arguments do not go together.
    """

    def __init__(
        self,
        loss: "AnyLoss",
        client: str | LossClient = "localhost:50051",
        *,
        reduction: Reduction = "mean",
        normalizer: float | None = None,
        empty: EmptyPolicy = "zero",
        nonfinite: NonfinitePolicy = "propagate",
        lint: bool = False,
        learnable: Iterable[str] = (),
        gradient_scale: Any = None,
        process_group: Any = None,
        timeout: float | None = None,
    ) -> None:
        super().__init__()
        arguments.member("reduction", arguments.reductions, reduction)
        arguments.member("empty", arguments.empty_policies, empty)
        arguments.member("nonfinite", arguments.nonfinite_policies, nonfinite)
        arguments.number("normalizer", normalizer)
        arguments.flag("lint", lint)
        if timeout is not None:
            arguments.checked_timeout(timeout)
        process_group = checked_group(process_group)
        if process_group is not None and reduction not in DENOMINATORS:
            raise InvalidRequestError(
                f"process_group must go with the reduction mean or batch_mean, got {reduction}",
                field="process_group",
            )
        self.loss = _message_of(loss)
        self.reduction = reduction
        self.normalizer = normalizer
        self.empty = empty
        self.nonfinite = nonfinite
        self.lint = lint
        self.gradient_scale = gradient_scale
        self.process_group = process_group
        self.timeout = timeout
        self.learnable = arguments.names_in("learnable", learnable)
        self.last: LossResult[float | None] | None = None
        self._address = client if isinstance(client, str) else None
        self._client = None if isinstance(client, str) else client_of(client, timeout)
        # By address. Replicas of ``DataParallel``, which are made at each step, have the same.
        self._made: dict[str, LossClient] = {}
        self._translation: Translation | None = None
        for name in self.learnable:
            self.register_parameter(name, nn.Parameter(torch.tensor(number_of(self.loss, name))))

    @classmethod
    def like(
        cls, module: nn.Module, client: str | LossClient = "localhost:50051", **options: Any
    ) -> Self:
        """Returns the remote counterpart of one of PyTorch's losses, with its parameters.

            RemoteLoss.like(nn.CrossEntropyLoss(weight=w, ignore_index=-100), "localhost:50051")

        It is called as PyTorch's is, with classes on axis 1.

        Args:
            module: The loss of PyTorch.
            client: A client, or the address for one.
            **options: Those of ``RemoteLoss`` but the reduction, which is the module's.

        Raises:
            InvalidRequestError: if lossd has no counterpart with the same values, or an option is
                not of its form.
        """
        translation = translated(module)
        if "reduction" in options:
            raise InvalidRequestError(
                f"reduction must be the module's, as in {type(module).__name__}(reduction='sum'), "
                f"got {options['reduction']!r:.64} as an option",
                field="reduction",
            )
        found = cls(translation.loss, client, reduction=translation.reduction, **options)
        found._translation = translation
        return found

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(
        self,
        *inputs: Any,
        weights: Any = None,
        mask: Any = None,
        cotangent: Any = None,
        normalizer: float | None = None,
        **named_inputs: Any,
    ) -> torch.Tensor:
        """Returns the loss of one batch.

        Args:
            *inputs: Inputs in the order that the loss declares: tensors, or lists of tensors.
            weights: One weight for each example.
            mask: Booleans: True keeps an example.
            cotangent: What gradients are multiplied by besides the upstream gradient: a number, or
                one for each example.
            normalizer: Divisor in place of the one that a mean would use, for this batch.
            **named_inputs: Inputs by name.

        Raises:
            LossdError: as ``LossClient.compute``.
        """
        with self._workers((*inputs, *named_inputs.values())) as workers:
            return self._value(
                inputs,
                named_inputs,
                workers,
                weights=weights,
                mask=mask,
                cotangent=cotangent,
                normalizer=self.normalizer if normalizer is None else normalizer,
            )

    def _workers(self, inputs: Iterable[Any]) -> AbstractContextManager[Workers | None]:
        """Returns those that have a share of a batch, for one call."""
        if self.process_group is None or self.reduction == "none":
            return nullcontext()
        return Workers(
            self.process_group,
            first_tensor(inputs).device,
            self.loss,
            reduction=self.reduction,
            empty=self.empty,
        )

    def _value(
        self,
        inputs: tuple[Any, ...],
        named_inputs: Mapping[str, Any],
        workers: Workers | None,
        **options: Any,
    ) -> torch.Tensor:
        time = Allowance(self.timeout)
        _refuse_options(named_inputs)
        prepared = PreparedInputs(self.loss, inputs)
        named: Mapping[str, Any] = named_inputs
        if self._translation is not None:
            names = time.names_of(self.client, self.loss) if named else ()
            ordered, named = self._translation.in_order(names, inputs, named), {}
            prepared = self._translation.prepare(self.loss, ordered)
        if prepared.weights is not None:
            options = prepared.weights.joined(**options)
        names = self._names(prepared, named, time)
        given = arguments.bind(names, prepared.inputs, named)
        call = ForwardPass(
            module=self,
            settings=Settings.of(self),
            loss=prepared.loss,
            inputs={name: gathered(name, one) for name, one in given.items() if one is not None},
            parameters={name: self._trained(name) for name in self.learnable},
            divisor=prepared.divisor,
            workers=workers,
            timeout=time.left(),
            **options,
        )
        value = call.value()
        return value.reshape(()) if prepared.is_single else value

    def _trained(self, name: str) -> torch.Tensor:
        """Returns a number that is trained: a parameter, or what stands for it in this call."""
        found = getattr(self, name)
        if not isinstance(found, torch.Tensor):
            raise InvalidRequestError(
                f"{name} must be a tensor, as it is learnable, got {type(found).__name__}",
                field=name,
            )
        return found

    def _names(
        self, prepared: PreparedInputs, named: Mapping[str, Any], time: Allowance
    ) -> tuple[str, ...]:
        """Returns the names of inputs that are given by their order; none where none are."""
        count = len(prepared.inputs)
        return time.names_of(self.client, prepared.loss, count, named) if count else ()

    @property
    def client(self) -> LossClient:
        """The client that the module calls with."""
        if self._client is not None:
            return self._client
        # setdefault is atomic, where a lock could have been copied locked into a fork.
        address, made = self._address or "", self._made
        return made.get(address) or made.setdefault(address, client_of(address, self.timeout))

    def extra_repr(self) -> str:
        """Describes the loss for the representation of the module."""
        return f"{self.loss!r}, reduction={self.reduction!r}"

    def __getstate__(self) -> dict[str, Any]:
        # A client that was made from an address is made again; a result belongs to this process.
        state = {**self.__dict__, "last": None, "_made": {}}
        if self.process_group not in (None, True):
            state["process_group"] = HeldGroup(self.process_group)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        group = state["process_group"]
        if isinstance(group, HeldGroup):
            state = {**state, "process_group": group.group}
        super().__setstate__(state)  # type: ignore[no-untyped-call]


# What calls are made with: first what the module is given, then what it decides itself.
_BEFORE = ("reduction", "empty", "nonfinite", "lint", "timeout")
_OWN = ("gradients", "per_example")


def _refuse_options(named_inputs: Iterable[str]) -> None:
    for name in named_inputs:
        if name in _BEFORE or name in _OWN:
            hint = ": give it with the loss" if name in _BEFORE else ""
            raise InvalidRequestError(
                f"inputs must be tensors, got {name}, an option{hint}", field="inputs"
            )


def _message_of(loss: Any) -> Any:
    """Returns a loss as a message.

    Raises:
        InvalidRequestError: if it is none, or one of PyTorch.
    """
    kind = loss if isinstance(loss, type) else type(loss)
    if issubclass(kind, nn.Module):
        raise InvalidRequestError(
            f"loss must be one of lossd, as Huber() or 'huber', got {kind.__name__}: "
            "RemoteLoss.like takes the losses of PyTorch",
            field="loss",
        )
    kinds.spec_of(loss)  # which refuses what no call could take
    return kinds.message_of(loss)
