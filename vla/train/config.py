"""What a recipe may say about training: three frozen dataclasses, checked the moment they are made."""

from dataclasses import dataclass
from typing import Literal


def _require(holds: bool, field: str, value: object, fix: str) -> None:
    if not holds:
        raise ValueError(f"{field} is {value!r}: {fix}")


@dataclass(frozen=True)
class OptimConfig:
    """AdamW and its learning rate: linear warm-up, then cosine down to `final_lr`, or constant.

    Weight decay is not applied to norms, biases and embeddings; gradients are clipped to the global norm `clip_norm`.
    """

    lr: float
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    weight_decay: float = 0.0
    warmup_steps: int = 0
    schedule: Literal["cosine", "constant"] = "cosine"
    final_lr: float = 0.0
    clip_norm: float = 1.0

    def __post_init__(self) -> None:
        _require(self.lr > 0, "optim.lr", self.lr, "give a positive learning rate")
        _require(all(0 <= b < 1 for b in self.betas), "optim.betas", self.betas, "both lie in [0, 1)")
        _require(self.eps > 0, "optim.eps", self.eps, "give a small positive number, such as 1e-8")
        _require(self.weight_decay >= 0, "optim.weight_decay", self.weight_decay, "give 0 or more")
        _require(self.warmup_steps >= 0, "optim.warmup_steps", self.warmup_steps, "give 0 or more")
        _require(0 <= self.final_lr <= self.lr, "optim.final_lr", self.final_lr, f"it lies in [0, optim.lr={self.lr}]")
        _require(self.clip_norm > 0, "optim.clip_norm", self.clip_norm, "give a positive norm (inf: never clip)")


@dataclass(frozen=True)
class LoopConfig:
    """How long, on what batch, and what is kept.

    Attributes:
        steps: Optimiser updates.
        batch_size: Samples an update sees, over all ranks and accumulated micro-batches.
        accumulate: Micro-batches an update is split into on each rank.
        seed: Of the starting weights. The mixture and the stage hold their own.
        log_every: Steps between lines of metrics.jsonl (the first and the last step are always there).
        save_every: Steps between checkpoints; 0 for none (an interrupted run still leaves one).
        keep_last: Checkpoints kept.
        dtype: Of the forward pass. Weights, gradients, optimiser and EMA are float32 either way.
        activation_checkpointing: Recompute each block in the backward pass instead of storing it.
        compile: torch.compile each block.
        ema: Decay of the exponential moving average of the weights; that average is then what is exported.
        eval_every: Steps between runs of the evaluators; 0 for none.
        loader_workers: Processes that gather batches ahead; 0 leaves it to a thread of the training process.
        max_bad_steps: Consecutive non-finite steps that stop the run.
        threads: torch's CPU threads in this process; None leaves torch's choice.
    """

    steps: int
    batch_size: int
    accumulate: int = 1
    seed: int = 0
    log_every: int = 10
    save_every: int = 1000
    keep_last: int = 2
    dtype: Literal["float32", "bfloat16"] = "float32"
    activation_checkpointing: bool = False
    compile: bool = False
    ema: float | None = None
    eval_every: int = 0
    loader_workers: int = 0
    max_bad_steps: int = 5
    threads: int | None = None

    def __post_init__(self) -> None:
        for field in ("steps", "batch_size", "accumulate", "log_every", "keep_last", "max_bad_steps"):
            _require(getattr(self, field) >= 1, f"loop.{field}", getattr(self, field), "give 1 or more")
        for field in ("save_every", "eval_every", "seed", "loader_workers"):
            _require(getattr(self, field) >= 0, f"loop.{field}", getattr(self, field), "give 0 or more")
        _require(self.ema is None or 0 < self.ema < 1, "loop.ema", self.ema, "a decay lies in (0, 1), such as 0.999")
        _require(self.threads is None or self.threads >= 1, "loop.threads", self.threads, "give 1 or more, or null")
        self.check_batch(world_size=1)

    def check_batch(self, world_size: int) -> None:
        """Raise ValueError unless the batch splits evenly over the ranks and their micro-batches."""
        parts = self.accumulate * world_size
        fix = (
            f"it must be divisible by loop.accumulate ({self.accumulate}) x ranks ({world_size}) = {parts}; "
            f"the nearest that is: {max(parts, round(self.batch_size / parts) * parts)}"
        )
        _require(self.batch_size % parts == 0, "loop.batch_size", self.batch_size, fix)


@dataclass(frozen=True)
class ParallelConfig:
    """Where the module lives: one process, replicated (DDP), sharded (FSDP2), or under DeepSpeed's ZeRO 1, 2 or 3."""

    kind: Literal["single", "ddp", "fsdp", "deepspeed"] = "single"
    zero_stage: Literal[1, 2, 3] = 2

    @property
    def name(self) -> str:
        """The kind in one word; DeepSpeed's carries its stage: `deepspeed-2`."""
        return f"deepspeed-{self.zero_stage}" if self.kind == "deepspeed" else self.kind
