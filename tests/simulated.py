"""A device that is none: tensors that behave as a GPU's do, computed on the CPU.

What only a GPU would tell about a training step, this one tells on any machine: that the host waits for the device,
that tensors of two devices meet, that a copy comes from memory that is not pinned, that float64 is used where there
is none, and that a captured step does something else when it is replayed.

A simulated tensor says that it is on `DEVICE` and holds a tensor on the CPU, on which `__torch_dispatch__` computes;
so its numbers are the CPU's, bit for bit, random ones included.
"""

from __future__ import annotations

import pkgutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from genbench.engine.batches import Batch
from genbench.engine.capture import Step

__all__ = ["DEVICE", "Simulated", "SimulatedGraphs", "Violation", "simulated_device", "step_of_the_device"]

DEVICE = torch.device("meta")
CPU = torch.device("cpu")
aten = torch.ops.aten


class Violation(RuntimeError):
    """What a real device does not do, or not without making the host wait."""


@dataclass
class Switches:
    in_step: bool = False  # the host must not wait
    float64: bool = True  # the device has it
    tape: Tape | None = None  # of a step that is being captured


switches = Switches()


class Simulated(torch.Tensor):
    """A tensor on the simulated device."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> Simulated:
        return torch.Tensor._make_wrapper_subclass(
            cls, held.shape, strides=held.stride(), dtype=held.dtype, layout=held.layout, device=DEVICE
        )

    def __init__(self, held: Tensor) -> None:
        self.held = held

    # With these two, Module.to and Module.double replace parameters as a whole.

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["held"], None

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, Tensor], *_: Any) -> Simulated:
        return Simulated(inner["held"])

    def __repr__(self, *, tensor_contents: object = None) -> str:
        return f"Simulated({self.held!r})"

    def __reduce_ex__(self, protocol: Any) -> Any:
        """In a file it is an ordinary tensor, as a GPU's is that is loaded with map_location="cpu"."""
        return self.held.detach().__reduce_ex__(protocol)

    def __deepcopy__(self, memo: dict[int, Any]) -> Simulated:
        copied = Simulated(self.held.detach().clone()).requires_grad_(self.requires_grad)
        copied.__dict__.update({key: value for key, value in self.__dict__.items() if key != "held"})
        memo[id(self)] = copied
        return copied

    def tolist(self) -> Any:
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})


def tensors(given: Any) -> Iterator[Tensor]:
    """All that are among arguments or results, in order."""
    if isinstance(given, Tensor):
        yield given
    elif isinstance(given, (list, tuple)):
        for item in given:
            yield from tensors(item)
    elif isinstance(given, dict):
        yield from tensors(list(given.values()))


def each(given: Any, kind: type, change: Callable[[Any], Any]) -> Any:
    """Arguments or results with everything of a kind changed."""
    if isinstance(given, kind):
        return change(given)
    if isinstance(given, (list, tuple)):
        return type(given)([each(item, kind, change) for item in given])
    if isinstance(given, dict):
        return {key: each(value, kind, change) for key, value in given.items()}
    return given


def compute(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """What the device does when it is told to run `func`."""
    copies = func in (aten._to_copy.default, aten.copy_.default)
    here = copied_to_device(func, args, kwargs) if copies else torch.device(kwargs.get("device") or DEVICE) == DEVICE
    if not copies:
        check_mixture(func, (args, kwargs))
        check_wait(func, args)
    held_args, held_kwargs = (
        each(args, Simulated, lambda tensor: tensor.held),
        each(kwargs, Simulated, lambda t: t.held),
    )
    if kwargs.get("device") is not None:
        held_kwargs = {**held_kwargs, "device": CPU}
    if switches.tape is not None:
        switches.tape.touch((held_args, held_kwargs))
    held = func(*held_args, **held_kwargs)
    if switches.tape is not None and here:
        switches.tape.record(Operation(func, held_args, held_kwargs, held))
    if not here or held is None or func is aten._local_scalar_dense.default:
        return held
    if all(r.alias_info is not None and r.alias_info.is_write for r in func._schema.returns):
        return written_arguments(func, args, kwargs)
    out = each(held, Tensor, Simulated)
    if not switches.float64 and any(tensor.dtype == torch.float64 for tensor in tensors(out)):
        raise Violation(f"{func}: this device has no float64")
    return out


def written_arguments(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """The arguments that an operation writes to and returns."""
    schema = func._schema
    places = {
        next(iter(argument.alias_info.before_set)): args[i] if i < len(args) else kwargs.get(argument.name)
        for i, argument in enumerate(schema.arguments)
        if argument.alias_info is not None
    }
    found = tuple(places[next(iter(result.alias_info.before_set))] for result in schema.returns)
    return found[0] if len(found) == 1 else found


def check_mixture(func: Any, given: Any) -> None:
    for tensor in tensors(given):
        if not isinstance(tensor, Simulated) and tensor.dim() > 0:
            raise Violation(f"{func}: a tensor {list(tensor.shape)} on the CPU meets one on the device")


# What tells the host how large a result is, or what is in it.
WAITS = {
    aten._local_scalar_dense.default,
    aten.nonzero.default,
    aten.masked_select.default,
    aten._unique2.default,
    aten.unique_consecutive.default,
    aten.bincount.default,
    aten.repeat_interleave.Tensor,
    aten.equal.default,
    aten.is_nonzero.default,
}
INDEXING = {aten.index.Tensor, aten.index_put_.default, aten.index_put.default, aten._index_put_impl_.default}


def check_wait(func: Any, args: Any) -> None:
    waits = func in WAITS
    if func in INDEXING:  # by a mask: what is true in it is counted first
        waits = any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1])
    if waits and switches.in_step:
        raise Violation(f"{func}: the host waits for the device in a training step")


def copied_to_device(func: Any, args: Any, kwargs: dict[str, Any]) -> bool:
    """Whether a copy ends on the device; checks that the host need not wait for it."""
    if func is aten.copy_.default:
        target, source = args[:2]
        there = target.device
        non_blocking = args[2] if len(args) > 2 else kwargs.get("non_blocking", False)
    else:
        source = args[0]
        there, non_blocking = torch.device(kwargs.get("device") or source.device), kwargs.get("non_blocking", False)
    if switches.in_step and source.device != there:
        if there != DEVICE:
            raise Violation(f"{func}: the host waits for a copy from the device in a training step")
        if not (non_blocking and getattr(source, "pretends_to_be_pinned", False)):
            raise Violation(f"{func}: a copy from memory that is not pinned, in a training step")
    return there == DEVICE


class Operation:
    """One of a captured step's. Called, it does the same again, from and to the same memory."""

    def __init__(self, func: Any, args: Any, kwargs: dict[str, Any], out: Any) -> None:
        self.func, self.args, self.kwargs, self.out = func, args, kwargs, out
        self.is_view = not func._schema.is_mutable and any(r.alias_info is not None for r in func._schema.returns)

    def __call__(self) -> None:
        if self.is_view:
            return  # of memory that is written to by others
        again = self.func(*self.args, **self.kwargs)
        if not self.func._schema.is_mutable:
            for old, new in zip(tensors(self.out), tensors(again), strict=True):
                old.copy_(new)


class Tape:
    """What a captured step does, and what memory held before it: capturing a step does not perform it."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.before: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}
        self.own: set[int] = set()
        self.random = torch.get_rng_state()

    def touch(self, given: Any) -> None:
        for tensor in tensors(given):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in self.own and storage.data_ptr() not in self.before:
                self.before[storage.data_ptr()] = storage, storage.clone()

    def record(self, operation: Operation) -> None:
        self.operations.append(operation)
        for tensor in tensors(operation.out):
            if tensor.untyped_storage().data_ptr() not in self.before:
                self.own.add(tensor.untyped_storage().data_ptr())

    def undo(self) -> None:
        for storage, content in self.before.values():
            storage.copy_(content)
        torch.set_rng_state(self.random)


class SimulatedGraphs:
    """What genbench.engine.capture.CudaGraphs is on CUDA: replays the operations of a step without its Python."""

    def eagerly(self, step: Step, batch: Batch) -> dict[str, Tensor]:
        return step(*batch)

    def record(self, step: Step, batch: Batch) -> tuple[Callable[[], None], dict[str, Tensor]]:
        tape = switches.tape = Tape()
        try:
            with step_of_the_device():
                values = step(*batch)
        finally:
            switches.tape = None
            tape.undo()

        def replay() -> None:
            for operation in tape.operations:
                operation()

        return replay, values


class OnDevice(TorchDispatchMode):
    """Tensors that are made on the device are simulated ones."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        asked = kwargs.get("device")
        if asked is not None and torch.device(asked) == DEVICE:
            return compute(func, args, kwargs)
        if any(isinstance(tensor, Simulated) for tensor in tensors((args, kwargs))):
            return compute(func, args, kwargs)
        return func(*args, **kwargs)


class PastDispatch(TorchFunctionMode):
    """Functions that do something else for a tensor of a subclass than for a tensor.

    torch.tensor makes its tensor past all dispatching: here on the CPU, and then it is copied. eigvalsh would compute
    eigenvectors too, with other roundings, for a subclass or within a mode.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.tensor, torch.as_tensor) and torch.device(kwargs.get("device") or CPU) == DEVICE:
            del kwargs["device"]
            return func(*args, **kwargs).to(DEVICE)
        if func is torch.linalg.eigvalsh and isinstance(args[0], Simulated):
            with _disable_current_modes():
                return Simulated(func(args[0].held))
        return func(*args, **kwargs)


def pretend_to_pin(tensor: Tensor) -> Tensor:
    pinned = tensor.clone()
    pinned.pretends_to_be_pinned = True  # type: ignore[attr-defined]
    return pinned


@contextmanager
def simulated_device(float64: bool = True, captures: bool = False) -> Iterator[None]:
    """A block in which `DEVICE` is a device, with or without float64, whose steps may be captured or not."""
    optimizers = ["cpu", DEVICE.type]
    with ExitStack() as stack:
        patched = {
            "torch.optim.optimizer._get_fused_kernels_supported_devices": lambda: list(optimizers),
            "torch.optim.adam._get_capturable_supported_devices": lambda *_, **__: list(optimizers),
            "torch.optim.rmsprop._get_capturable_supported_devices": lambda *_, **__: list(optimizers),
            "torch.Tensor.pin_memory": pretend_to_pin,
            "genbench.engine.device.resolve": lambda name: DEVICE,
            "genbench.engine.device.WITHOUT_FLOAT64": set() if float64 else {DEVICE.type},
            "genbench.regularizers.sn.without_autocast": nullcontext,
            "genbench.engine.capture.CudaGraphs": SimulatedGraphs,
            "genbench.engine.trainer.can_capture": lambda device: captures,
            "genbench.optimizers.hooks.can_capture": lambda device: captures and device == DEVICE,
        }
        for name, replacement in patched.items():
            owner, _, attribute = name.rpartition(".")
            stack.enter_context(mock.patch.object(pkgutil.resolve_name(owner), attribute, replacement))
        stack.enter_context(warnings.catch_warnings())
        # load_state_dict believes that a tensor on this device holds nothing.
        warnings.filterwarnings("ignore", "for .*: copying from a non-meta parameter")
        stack.enter_context(mock.patch.object(switches, "float64", float64))
        stack.enter_context(PastDispatch())
        stack.enter_context(OnDevice())
        yield


@contextmanager
def step_of_the_device() -> Iterator[None]:
    """A block in which the host must not wait for the device."""
    with mock.patch.object(switches, "in_step", True):
        yield
