"""AdamW, which parameters decay, and the learning rate of a step."""

import math

import torch
from torch import Tensor, nn

from vla.train.config import OptimConfig


def decayed_names(module: nn.Module, config: OptimConfig) -> set[str]:
    """Names of the parameters weight decay applies to: all, or (`decayed: matrices`) matrices that are not embeddings.

    Taken from the unsharded module, because ZeRO-3 leaves a partitioned parameter without a shape.
    """
    if config.decayed == "all":
        return {name for name, _ in module.named_parameters()}
    embeddings = {id(p) for m in module.modules() if isinstance(m, nn.Embedding) for p in m.parameters(recurse=False)}
    return {n for n, p in module.named_parameters() if p.ndim > 1 and id(p) not in embeddings and "embed" not in n}


def build_adamw(parameters: dict[str, nn.Parameter], decayed: set[str], config: OptimConfig) -> torch.optim.AdamW:
    """AdamW over the trainable ones of `parameters`. Fused: on CPU too, one call instead of a loop over tensors."""
    trainable = {name: p for name, p in parameters.items() if p.requires_grad}
    if not trainable:
        raise ValueError("the stage's module has no trainable parameter: every requires_grad is False")
    groups = [
        {"params": [p for n, p in trainable.items() if n in decayed], "weight_decay": config.weight_decay},
        {"params": [p for n, p in trainable.items() if n not in decayed], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [g for g in groups if g["params"]], lr=config.lr, betas=config.betas, eps=config.eps, fused=True
    )


@torch.no_grad()
def start_moments(optimiser: torch.optim.Optimizer) -> None:
    """Make AdamW's state now rather than at the first step, so that a checkpoint can be loaded into it in place."""
    for group in optimiser.param_groups:
        for p in group["params"]:
            step = torch.zeros((), dtype=torch.float32, device=p.device)  # where the fused kernel wants it
            optimiser.state[p] = {"step": step, "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}


def moments(optimiser: torch.optim.Optimizer, parameters: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    """AdamW's state by `<parameter name>.<state>`: names, unlike positions in a list, survive another sharding."""
    return {f"{n}.{k}": v for n, p in parameters.items() if p in optimiser.state for k, v in optimiser.state[p].items()}


def learning_rate(config: OptimConfig, step: int, steps: int) -> float:
    """The learning rate of update `step` in 1..steps, as `OptimConfig.schedule` describes it."""
    warmup, end = config.warmup_steps, config.decay_steps or steps
    if config.schedule in ("cosine", "constant"):
        if step <= warmup:
            return config.lr * step / warmup
        return config.lr if config.schedule == "constant" else _cosine(config, step - warmup, end - warmup)
    done = step - 1  # both projects count from 0
    if config.schedule == "lerobot" and steps < end:
        warmup, end = int(warmup * (steps / end)), steps
    if done < warmup:
        return config.lr * step / (warmup + 1)
    return _cosine(config, done, end) if config.schedule == "lerobot" else _cosine(config, done - warmup, end - warmup)


def _cosine(config: OptimConfig, done: int, length: int) -> float:
    progress = min(1.0, done / max(1, length))
    return config.final_lr + (config.lr - config.final_lr) * 0.5 * (1 + math.cos(math.pi * progress))


def set_learning_rate(optimiser: torch.optim.Optimizer, lr: float) -> None:
    """Use `lr` from the next update on."""
    for group in optimiser.param_groups:
        group["lr"] = lr
