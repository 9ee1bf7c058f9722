"""One micro-batch of a stage, forward and backward, on tensors that have shapes and dtypes but no data.

Nothing here knows a model: the stage's own `loss` runs, so what is counted is what the training loop will do. Up to the
call of the module the loss works on a real batch (it tokenizes, drops absent cameras, draws noise); from there on every
tensor is a fake of the same shape, and torch's own autograd decides what is kept for the backward pass.
"""

import dataclasses
import functools
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.flop_counter import flop_registry

from data_mixtures.batch import Batch
from vla.nn.attention import kernels_of
from vla.train.config import LoopConfig
from vla.train.engine import build_on_meta
from vla.train.footprint.events import Event, FlopCount
from vla.train.initialise import materialise
from vla.train.precision import forward_precision
from vla.train.stage import Stage

DeviceType = Literal["cpu", "cuda"]

_aten = torch.ops.aten
_DEVICE = torch.ops.prim.device.default
_FLOPS: dict[Any, Callable[..., int]] = {
    **flop_registry,
    # Fakes are CPU tensors, whose fused attention torch's counter does not know.
    _aten._scaled_dot_product_flash_attention_for_cpu: flop_registry[_aten._scaled_dot_product_flash_attention],
    _aten._scaled_dot_product_flash_attention_for_cpu_backward: flop_registry[
        _aten._scaled_dot_product_flash_attention_backward
    ],
}


@dataclass(frozen=True)
class Rehearsal:
    """A micro-batch as it went.

    Attributes:
        module: The stage's module on meta, as the loop builds it.
        blocks: Its repeated blocks, in order.
        events: What happened, in order.
        batch_bytes: The batch itself, held throughout.
        flops: Of the whole micro-batch.
    """

    module: nn.Module
    blocks: list[nn.Module]
    events: list[Event]
    batch_bytes: int
    flops: FlopCount


def rehearse(stage: Stage, batch: Batch, loop: LoopConfig, sharded: bool, device: DeviceType = "cuda") -> Rehearsal:
    """Run one micro-batch of `stage` without computing anything.

    Args:
        stage: What would be trained.
        batch: A real micro-batch on the CPU; its values do not matter, its texts and masks do.
        loop: Precision and activation checkpointing are read from it.
        sharded: Whether weights are freed after each block, so that their casts cannot be kept (FSDP, ZeRO-3).
        device: Whose attention kernels run.

    Returns:
        The events. Weights and gradients are left out of the bytes: what becomes of them depends on the placement.
    """
    module, blocks = build_on_meta(stage, replace(loop, compile=False), mesh=None)
    fakes = FakeTensorMode(allow_non_fake_inputs=True)
    with fakes:
        materialise(module, "cpu")
    recorder = _Recorder([*module.parameters(), *module.buffers(), *_tensors(batch)])
    for index, block in enumerate(blocks):
        block.forward = recorder.around(block.forward, index)
    for index, parameter in enumerate(module.parameters()):
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(functools.partial(recorder.gradient, index))
    with ExitStack() as modes:
        modes.enter_context(kernels_of(device))
        real = modes.enter_context(ExitStack())
        real.enter_context(_Watch(recorder))
        module.forward = functools.partial(_entering, module.forward, fakes, recorder, modes, real)
        with forward_precision(loop.dtype, torch.device("cpu"), sharded):
            loss, _ = stage.loss(module, batch)
        recorder.in_backward = True
        (loss / loop.accumulate).backward()
    held = sum(tensor.nbytes for tensor in _tensors(batch))
    return Rehearsal(module, blocks, recorder.events, held, FlopCount(**recorder.flops))


def _entering(
    forward: Callable[..., Any],
    fakes: FakeTensorMode,
    recorder: "_Recorder",
    modes: ExitStack,
    real: ExitStack,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """The module's forward pass, from which on all tensors are fakes."""
    args, kwargs = recorder.faked(fakes, (args, kwargs))
    recorder.sum_up()
    real.close()  # that watch would see every operation a second time, underneath the fakes
    modes.enter_context(fakes)
    modes.enter_context(_Watch(recorder))
    return forward(*args, **kwargs)


def resized(first: Rehearsal, size: int, second: Rehearsal, other: int, wanted: int) -> Rehearsal | None:
    """The rehearsal of a micro-batch of `wanted` samples, reckoned from those of `size` and of `other`.

    The same operations run whatever the size, and each makes a constant and so much a sample. None where they differ.
    """
    if [event.what for event in first.events] != [event.what for event in second.events]:
        return None

    def between(a: int, b: int) -> int:
        return a + (b - a) * (wanted - size) // (other - size)

    events = [Event(a.what, between(a.value, b.value)) for a, b in zip(first.events, second.events, strict=True)]
    flops = FlopCount(*(between(a, b) for a, b in zip(first.flops, second.flops, strict=True)))
    batch_bytes = between(first.batch_bytes, second.batch_bytes)
    return replace(first, events=events, batch_bytes=batch_bytes, flops=flops)


class _Recorder:
    """Follows every storage from the operation that made it to the moment nothing refers to it."""

    def __init__(self, known: list[Tensor]) -> None:
        self.events: list[Event] = []
        self.flops = {"forward": 0, "backward": 0, "recomputed": 0}
        self.in_backward = False
        self._known: dict[int, object] = {}
        for tensor in known:
            self._ignore(tensor)

    def _ignore(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        self._known[storage._cdata] = storage  # kept alive, so that no other storage gets its address

    def made(self, out: object) -> None:
        """Note the storages an operation made."""
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in self._known:
                    size = storage.nbytes()
                    gone = functools.partial(self._gone, storage._cdata, size)
                    self._known[storage._cdata] = weakref.ref(storage, gone)
                    self.events.append(Event("bytes", size))

    def computed(self, flops: int) -> None:
        """Note what an operation cost."""
        # Autograd's own operations run without a graph; those of a forward pass repeated inside it make one.
        again = self.in_backward and torch.is_grad_enabled()
        self.flops["recomputed" if again else "backward" if self.in_backward else "forward"] += flops

    def sum_up(self) -> None:
        """Put two events, up to the fullest moment and down to now, in the place of all so far.

        Before the module is called, draws are made sample by sample: how many events that are depends on the batch.
        """
        highest = live = 0
        for event in self.events:
            live += event.value
            highest = max(highest, live)
        self.events = [Event("bytes", highest), Event("bytes", live - highest)]

    def _gone(self, address: int, size: int, _: object) -> None:
        del self._known[address]
        self.events.append(Event("bytes", -size))

    def faked(self, fakes: FakeTensorMode, value: Any) -> Any:
        """`value` (tensors in tuples, lists, dicts and dataclasses) with fakes for its tensors."""
        if isinstance(value, Tensor):
            fake = fakes.from_tensor(value)
            self._ignore(fake)  # the real one is counted
            return fake
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            parts = {f.name: self.faked(fakes, getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
            return replace(value, **parts)
        if isinstance(value, dict):
            return {key: self.faked(fakes, item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(self.faked(fakes, item) for item in value)
        return value

    def gradient(self, index: int, parameter: Tensor) -> None:
        """Give up a gradient just made: where it goes is the placement's business."""
        parameter.grad = None
        self.events.append(Event("gradient", index))

    def around(self, forward: Callable[..., Any], index: int) -> Callable[..., Any]:
        """A block's forward pass that notes when it and its backward pass begin and end."""

        def marked(*args: Any, **kwargs: Any) -> Any:
            self.events.append(Event("forward", index))
            args, kwargs = self._ending((args, kwargs), index)
            out = forward(*args, **kwargs)
            self.events.append(Event("forward_end", index))
            begun: list[int] = []

            def begin(_: Tensor) -> None:
                if not begun:
                    begun.append(index)
                    self.events.append(Event("backward", index))

            for tensor in tree_leaves(out):
                if isinstance(tensor, Tensor) and tensor.requires_grad:
                    tensor.register_hook(begin)
            return out

        return marked

    def _ending(self, inputs: Any, index: int) -> Any:
        """The block's inputs, passed through a function whose backward pass is the end of the block's own."""
        learning = [t for t in tree_leaves(inputs) if isinstance(t, Tensor) and t.requires_grad]
        if not learning:
            return inputs
        passed = iter(_Passing.apply(self, index, *learning))
        return tree_map_only(Tensor, lambda t: next(passed) if t.requires_grad else t, inputs)


class _Passing(torch.autograd.Function):
    """Tensors as they are; says when all their gradients are there."""

    @staticmethod
    def forward(ctx: Any, recorder: _Recorder, index: int, *tensors: Tensor) -> tuple[Tensor, ...]:  # pyright: ignore
        ctx.recorder, ctx.index = recorder, index
        ctx.set_materialize_grads(False)
        return tensors

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        ctx.recorder.events.append(Event("backward_end", ctx.index))
        return (None, None, *gradients)


class _Watch(TorchDispatchMode):
    """Shows the recorder every operation."""

    def __init__(self, recorder: _Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing here is compiled, and the wrapper that keeps Dynamo out costs a fifth of the time

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is _DEVICE and isinstance(args[0], FakeTensor):
            return args[0].fake_device  # two calls in three are this question
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        self.recorder.made(out)
        if (count := _FLOPS.get(func._overloadpacket)) is not None:
            self.recorder.computed(count(*args, **kwargs, out_val=out))
        return out


def _tensors(batch: Batch) -> Iterator[Tensor]:
    yield from (value for value in vars(batch).values() if isinstance(value, Tensor))
