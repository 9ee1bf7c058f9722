"""A module under DeepSpeed's ZeRO: optimiser state (1), gradients too (2), weights too (3) cut over the ranks.

Weights stay float32 and DeepSpeed's own autocast runs the forward pass, so that its numbers are those of the others.
"""

import logging
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import deepspeed
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from typing_extensions import override

from vla.train import optim
from vla.train.config import LoopConfig, OptimConfig, ParallelConfig
from vla.train.distributed import World
from vla.train.engine import Engine, build_on_meta
from vla.train.initialise import (
    initialise,
    initialise_buffers,
    materialise,
    materialise_buffers,
    persistent_buffers,
    replace_parameter,
    starting_value,
    tied_names,
)
from vla.train.precision import forward_precision
from vla.train.stage import Stage

_TAG = "deepspeed"


def zero_config(loop: LoopConfig, config: OptimConfig, parallel: ParallelConfig, world: World) -> dict[str, object]:
    """The recipe's three dataclasses in DeepSpeed's words."""
    return {
        "train_micro_batch_size_per_gpu": loop.batch_size // (loop.accumulate * world.size),
        "gradient_accumulation_steps": loop.accumulate,
        "gradient_clipping": config.clip_norm,
        "zero_allow_untested_optimizer": True,  # torch's AdamW, as everywhere else
        "zero_optimization": {
            "stage": parallel.zero_stage,
            # Otherwise small weights are held twice, and the copy that computes is not the one EMA and export see.
            "stage3_param_persistence_threshold": 0,
            "memory_efficient_linear": False,  # it replaces torch's linear for the whole process
        },
        "torch_autocast": {
            "enabled": loop.dtype == "bfloat16",
            "dtype": "bfloat16",
            "lower_precision_safe_modules": [],  # exchange float32, as DDP and FSDP2 do
        },
        "steps_per_print": None,
    }


def _start_deepspeed(world: World) -> None:
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*(all_gather_into|reduce_scatter)_tensor.* is deprecated")  # its calls
    if world.device.type == "cpu":
        # Its first use compiles a shared-memory kernel for minutes, and a kill meanwhile leaves a lock that hangs the
        # next run; gloo does the same work.
        sys.modules["deepspeed.comm.torch"].build_shm_op = lambda: None  # pyright: ignore[reportAttributeAccessIssue]
    deepspeed.init_distributed(
        "gloo" if world.device.type == "cpu" else "nccl", auto_mpi_discovery=False, verbose=False
    )


def _initialise_cut(module: nn.Module, stage: Stage, seed: int, settings: dict[str, object], rank: int) -> None:
    """ZeRO-3: give one parameter at a time its memory and value, and cut it before the next is made."""
    for names in tied_names(module):
        meta = module.get_parameter(names[0])
        full = starting_value(stage, names[0], meta.shape, seed)
        parameter = nn.Parameter(full.to(meta.dtype), requires_grad=meta.requires_grad)
        deepspeed.zero.Init(module=nn.ParameterList([parameter]), config_dict_or_path=settings)
        _clear_padding(parameter, rank)
        replace_parameter(module, names, parameter)


def _clear_padding(parameter: Any, rank: int) -> None:
    """Zeros behind a rank's share of a parameter: DeepSpeed leaves there whatever the memory held, NaN for one."""
    share = parameter.ds_tensor.data
    used = parameter.ds_numel - rank * share.numel()
    share[max(0, min(used, share.numel())) :].zero_()


class ZeroEngine(Engine):
    """`deepspeed` with stage 1, 2 or 3; see `Engine` for what each method promises."""

    def __init__(
        self, stage: Stage, loop: LoopConfig, config: OptimConfig, parallel: ParallelConfig, world: World
    ) -> None:
        _start_deepspeed(world)
        self._loop, self._world, self._stage3 = loop, world, parallel.zero_stage == 3
        settings = zero_config(loop, config, parallel, world)
        self.module, _ = build_on_meta(stage, loop, mesh=None)
        decayed = optim.decayed_names(self.module, config)
        if self._stage3:
            _initialise_cut(self.module, stage, loop.seed, settings, world.rank)
            materialise_buffers(self.module, world.device)
            initialise_buffers(self.module, stage, loop.seed)
        else:
            materialise(self.module, world.device)
            initialise(self.module, stage, loop.seed)
        adamw = optim.build_adamw(dict(self.module.named_parameters()), decayed, config)
        placed: Any = deepspeed.initialize(
            model=self.module, optimizer=adamw, config=settings, dist_init_required=False
        )
        self._engine, self._optimiser = placed[:2]
        self._parameters: dict[str, Any] = dict(self.module.named_parameters())
        self.network = self._engine

    @override
    def forward(self, last: bool) -> torch.autocast:
        self._last = last
        return forward_precision(self._loop.dtype, self._world.device, sharded=self._stage3)

    @override
    def backward(self, loss: Tensor) -> None:
        # DeepSpeed skips a step for its gradient's sake alone: make sure a bad loss has a bad gradient.
        self._engine.backward(loss * torch.where(loss.detach().isfinite(), 1.0, torch.nan))
        if not self._last:
            self._engine.step()  # no update: this is how DeepSpeed counts micro-batches

    @override
    def update(self, lr: float, loss_is_finite: bool) -> float:
        optim.set_learning_rate(self._optimiser, lr)
        self._engine.step()
        if not self._engine.was_step_applied():
            return float("inf")
        assert loss_is_finite, "DeepSpeed made an update from a loss that is not finite"
        return float(self._engine.get_global_grad_norm())

    @override
    def weights(self) -> dict[str, Tensor]:
        trainable = {name: p for name, p in self._parameters.items() if p.requires_grad}
        return {name: p.ds_tensor for name, p in trainable.items()} if self._stage3 else dict(trainable)

    @override
    @torch.no_grad()
    def full_tensors(self) -> Iterator[tuple[str, Tensor]]:
        self.forget_gathered()
        for name, parameter in self._parameters.items():
            with deepspeed.zero.GatheredParameters([parameter], enabled=self._stage3):
                yield name, parameter.detach()
        yield from persistent_buffers(self.module)

    @override
    def forget_gathered(self) -> None:
        self._engine.empty_partition_cache()

    @override
    def held_tensors(self) -> list[Tensor]:
        states = self._optimiser.optimizer.state.values()
        return [*self.weights().values(), *(t for s in states for t in s.values() if isinstance(t, Tensor))]

    @override
    def checkpoint_settings(self) -> dict[str, object]:
        # Its files hold each rank's flat partition: they fit the same cut only.
        return {"parallel.kind": f"deepspeed ZeRO-{3 if self._stage3 else '1 or 2'} on {self._world.size} ranks"}

    def _averages_file(self, folder: Path) -> Path:
        return folder / f"ema-rank{self._world.rank:05d}.safetensors"

    @override
    def save(self, folder: Path, averages: dict[str, Tensor]) -> None:
        self._engine.save_checkpoint(str(folder), tag=_TAG, save_latest=False, exclude_frozen_parameters=True)
        save_file({name: tensor.contiguous() for name, tensor in averages.items()}, self._averages_file(folder))

    @override
    @torch.no_grad()
    def load(self, folder: Path, averages: dict[str, Tensor]) -> None:
        self._engine.load_checkpoint(str(folder), tag=_TAG, load_module_strict=False)
        for name, saved in load_file(self._averages_file(folder)).items():
            averages[name].copy_(saved)

    @override
    def running(self) -> str:
        cut = all(hasattr(p, "ds_tensor") for p in self._parameters.values())
        stage = self._engine.zero_optimization_stage()
        optimiser = type(self._optimiser).__name__
        expected = "DeepSpeedZeroOptimizer_Stage3" if stage == 3 else "DeepSpeedZeroOptimizer"
        return f"deepspeed-{stage}" if optimiser == expected and cut == (stage == 3) else f"{optimiser}, {stage=}"
