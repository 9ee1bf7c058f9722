"""A few training steps of pi0.5, ours or LeRobot's, in a process of its own: prints one JSON line.

    python training_runner.py ours|lerobot CASE

CASE is a folder that benchmarks/training_peers.py wrote: weights.safetensors, inputs.safetensors, case.json. A step is
forward, backward, clipping and AdamW, each project's own. Ours is given what its Processor would make of the inputs:
without cameras that no sample has, and with the text as long as its longest.
"""

# pyright: reportMissingImports=false

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from peer_weights import PeerWeights
from safetensors.torch import load_file
from torch import Tensor, nn

Losses = Callable[[], Tensor]
Built = tuple[nn.Module, torch.optim.Optimizer, Losses]


def build_ours(weights: PeerWeights, inputs: dict[str, Tensor], case: dict[str, Any]) -> Built:
    """Our student, all of it learning that can."""
    from vla.models.pi05 import parallelize
    from vla.models.pi05.load import load_published
    from vla.models.pi05.model import NoisyActions, Pi05, Prefix
    from vla.models.pi05.trainable import LoraTargets, freeze
    from vla.nn.flow_matching import interpolate, velocity_target
    from vla.train.config import OptimConfig
    from vla.train.engine import recompute
    from vla.train.optim import build_adamw, decayed_names

    with torch.device("meta"):
        module = Pi05(weights.config)
    load_published(module, weights.file)
    freeze(module.to(case["device"]), "full", LoraTargets(), text=False)
    if case["checkpointing"]:
        recompute(parallelize.blocks(module))
    optim = OptimConfig(preset="lerobot")
    optimiser = build_adamw(dict(module.named_parameters()), decayed_names(module, optim), optim)
    present = inputs["image_mask"].any(0)
    longest = int(inputs["token_mask"].sum(1).max())
    prefix = Prefix(
        inputs["images"][:, present],
        inputs["image_mask"][:, present],
        inputs["tokens"][:, :longest],
        inputs["token_mask"][:, :longest],
    )
    actions, noise, times = inputs["actions"], inputs["noise"], inputs["time"]

    def losses() -> Tensor:
        x_t = interpolate(actions, noise, times)
        velocity = module(prefix, noisy=NoisyActions(x_t, times))["velocity"]
        return (velocity - velocity_target(actions, noise)).square()

    return module, optimiser, losses


def build_lerobot(weights: PeerWeights, inputs: dict[str, Tensor], case: dict[str, Any]) -> Built:
    """LeRobot's public model and its optimiser's numbers."""
    from lerobot_model import build

    model = build(weights, device=case["device"], gradient_checkpointing=case["checkpointing"])
    if case["checkpointing"]:
        model.gradient_checkpointing_enable()
    optimiser = torch.optim.AdamW(model.parameters(), lr=2.5e-5, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.01)
    images, masks = list(inputs["images"].unbind(1)), list(inputs["image_mask"].unbind(1))
    rest = [inputs[name] for name in ("tokens", "token_mask", "actions", "noise", "time")]
    return model, optimiser, lambda: model.forward(images, masks, *rest)


def step(built: Built, precision: AbstractContextManager[object]) -> tuple[float, float]:
    """One update; the loss and the gradient's norm before it."""
    module, optimiser, losses = built
    with precision:
        loss = losses().float().mean()
    loss.backward()
    norm = nn.utils.clip_grad_norm_(module.parameters(), 1.0)
    optimiser.step()
    optimiser.zero_grad()
    return loss.item(), norm.item()


def resident(field: str) -> int:
    """A line of /proc/self/status in bytes: VmRSS is now, VmHWM the most since the last `forget_peak`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def forget_peak() -> None:
    """Start VmHWM anew (Linux, proc(5))."""
    Path("/proc/self/clear_refs").write_text("5")


def main(who: str, folder: Path) -> dict[str, Any]:
    """Build, take a step to warm up, then measure."""
    case = json.loads((folder / "case.json").read_text())
    on_gpu = case["device"] != "cpu"
    weights = PeerWeights.open(folder / "weights.safetensors", case["horizon"], case["vision_heads"], case["head_dim"])
    inputs = {name: value.to(case["device"]) for name, value in load_file(folder / "inputs.safetensors").items()}
    make = {"ours": build_ours, "lerobot": build_lerobot}[who]
    make_precision: Callable[[], AbstractContextManager[object]] = nullcontext
    if case["autocast"]:
        make_precision = lambda: torch.autocast(case["device"], torch.bfloat16)  # noqa: E731
    before = resident("VmRSS")
    built = make(weights, inputs, case)
    built[0].train()
    loss, norm = step(built, make_precision())
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    else:
        forget_peak()
    wall, busy = [], []
    for _ in range(case["steps"]):
        started, cpu_started = time.perf_counter(), time.process_time()
        step(built, make_precision())
        if on_gpu:
            torch.cuda.synchronize()
        wall.append(time.perf_counter() - started)
        busy.append(time.process_time() - cpu_started)
    peak = torch.cuda.max_memory_allocated() if on_gpu else resident("VmHWM") - before
    return {
        "who": who,
        "loss": loss,
        "grad_norm": norm,
        "seconds": statistics.median(wall),
        "cpu_seconds": statistics.median(busy),
        "peak_bytes": peak,
    }


if __name__ == "__main__":
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    print(json.dumps(main(sys.argv[1], Path(sys.argv[2]))))
