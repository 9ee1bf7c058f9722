"""What a recipe may say about training: three frozen dataclasses, checked the moment they are made."""

from dataclasses import dataclass, field
from typing import Any, Literal


def _require(holds: bool, name: str, value: object, fix: str) -> None:
    if not holds:
        raise ValueError(f"{name} is {value!r}: {fix}")


Preset = Literal["plain", "openpi", "lerobot"]

# What each field of `OptimConfig` is where a recipe does not give it. Both projects' numbers are those of their pi0.5
# configurations (openpi training/optimizer.py, LeRobot configuration_pi05.py); neither spares norms and biases.
_ADAMW: dict[str, Any] = {"betas": (0.9, 0.95), "eps": 1e-8, "clip_norm": 1.0}
_PUBLISHED = _ADAMW | {"lr": 2.5e-5, "final_lr": 2.5e-6, "warmup_steps": 1000, "decay_steps": 30_000, "decayed": "all"}
PRESETS: dict[Preset, dict[str, Any]] = {
    "plain": _ADAMW
    | {
        "weight_decay": 0.0,
        "decayed": "matrices",
        "warmup_steps": 0,
        "schedule": "cosine",
        "final_lr": 0.0,
        "decay_steps": 0,
    },
    "openpi": _PUBLISHED | {"weight_decay": 1e-10, "schedule": "openpi"},
    "lerobot": _PUBLISHED | {"weight_decay": 0.01, "schedule": "lerobot"},
}


def _of_preset() -> Any:
    """A field that is None until `__post_init__` has put the preset's value there."""
    return field(default=None, metadata={"default": "the preset's"})


@dataclass(frozen=True)
class OptimConfig:
    """AdamW and its learning rate. A field that is not given is its preset's, which never leaves one open but `lr`.

    Attributes:
        preset: `plain`: no weight decay, cosine to 0 at the last update, `lr` must be given. `openpi`, `lerobot`: all
            numbers of that project's pi0.5 training (with `loop.ema: 0.99` for openpi's average).
        lr: The highest learning rate.
        betas: AdamW's.
        eps: AdamW's.
        weight_decay: AdamW's, on the parameters `decayed` names.
        decayed: `matrices` spares norms, biases and embeddings; `all` spares nothing.
        warmup_steps: Updates over which the rate rises.
        schedule: `cosine`: update n of the warm-up has lr * n / warmup_steps, then half a cosine to `final_lr`.
            `openpi`: lr * n / (warmup_steps + 1), else alike, one update later. `lerobot`: openpi's warm-up, then a
            cosine that began at the first update; a run shorter than `decay_steps` shortens both to its own length.
            `constant`: `cosine`'s warm-up, then lr.
        decay_steps: Updates until `final_lr`, which then stays; 0 for the run's own number.
        final_lr: Where the cosine ends.
        clip_norm: Largest global norm of the gradient; inf never clips.
    """

    preset: Preset = "plain"
    lr: float = _of_preset()
    betas: tuple[float, float] = _of_preset()
    eps: float = _of_preset()
    weight_decay: float = _of_preset()
    decayed: Literal["matrices", "all"] = _of_preset()
    warmup_steps: int = _of_preset()
    schedule: Literal["cosine", "constant", "openpi", "lerobot"] = _of_preset()
    decay_steps: int = _of_preset()
    final_lr: float = _of_preset()
    clip_norm: float = _of_preset()

    def __post_init__(self) -> None:
        _require(self.preset in PRESETS, "optim.preset", self.preset, f"choose one of {', '.join(PRESETS)}")
        for name, value in PRESETS[self.preset].items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)  # the one moment a frozen dataclass may still be filled in
        _require(self.lr is not None, "optim.lr", self.lr, "give one, or a preset that has one (openpi, lerobot)")
        _require(self.lr > 0, "optim.lr", self.lr, "give a positive learning rate")
        _require(all(0 <= b < 1 for b in self.betas), "optim.betas", self.betas, "both lie in [0, 1)")
        _require(self.eps > 0, "optim.eps", self.eps, "give a small positive number, such as 1e-8")
        _require(self.weight_decay >= 0, "optim.weight_decay", self.weight_decay, "give 0 or more")
        _require(self.warmup_steps >= 0, "optim.warmup_steps", self.warmup_steps, "give 0 or more")
        _require(0 <= self.final_lr <= self.lr, "optim.final_lr", self.final_lr, f"it lies in [0, optim.lr={self.lr}]")
        _require(self.clip_norm > 0, "optim.clip_norm", self.clip_norm, "give a positive norm (inf: never clip)")
        fix = f"it must be more than optim.warmup_steps ({self.warmup_steps}), or 0 for the run's length"
        possible = self.decay_steps == 0 or self.decay_steps > self.warmup_steps
        _require(possible, "optim.decay_steps", self.decay_steps, fix)


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
        keep_best: What an evaluator calls a number that is to be low: the weights of the evaluation where it was lowest
            are what is exported. None exports the last ones.
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
    keep_best: str | None = None
    loader_workers: int = 0
    max_bad_steps: int = 5
    threads: int | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulate", "log_every", "keep_last", "max_bad_steps"):
            _require(getattr(self, name) >= 1, f"loop.{name}", getattr(self, name), "give 1 or more")
        for name in ("save_every", "eval_every", "seed", "loader_workers"):
            _require(getattr(self, name) >= 0, f"loop.{name}", getattr(self, name), "give 0 or more")
        _require(self.ema is None or 0 < self.ema < 1, "loop.ema", self.ema, "a decay lies in (0, 1), such as 0.999")
        _require(self.threads is None or self.threads >= 1, "loop.threads", self.threads, "give 1 or more, or null")
        fix = f"give loop.eval_every a value from 1 to loop.steps ({self.steps})"
        _require(self.keep_best is None or 0 < self.eval_every <= self.steps, "loop.keep_best", self.keep_best, fix)
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
