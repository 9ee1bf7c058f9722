"""A training step beside LeRobot's public code: samples a second and peak memory, same weights, inputs and optimiser.

    VLA_LEROBOT_PYTHON=... python benchmarks/training_peers.py [--rounds 3] [--batch 2 8]
    VLA_LEROBOT_PYTHON=... python benchmarks/training_peers.py --full --device cuda --batch 8    (13 GB of weights)

Each contender runs in a process of its own, in turns. Memory is the most a process held beyond what it had before the
model was built: weights, gradients, moments, activations (on a GPU: what torch allocated). On a busy machine the ratio
of CPU seconds is the steadier one.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from vla.models.pi05.config import GemmaConfig, Pi05Config, VisionConfig
from vla.models.pi05.model import Pi05

RUNNER = Path(__file__).parent / "peers" / "training_runner.py"
SET_UP = "VLA_LEROBOT_PYTHON names no Python that can import LeRobot: make one with `pip install lerobot[pi]`"


def sizes(full: bool, depth: int, width: int) -> Pi05Config:
    """The published model, or one of its proportions: an eighth of its widths by default, 224 px and all tokens."""
    if full:
        return Pi05Config()
    return Pi05Config(
        vision=VisionConfig(width=width * 9 // 16, depth=depth, mlp_dim=width * 2, num_heads=4),
        vlm=GemmaConfig(width=width, depth=depth, mlp_dim=width * 8, head_dim=width // 8),
        expert=GemmaConfig(width=width // 2, depth=depth, mlp_dim=width * 2, head_dim=width // 8),
        vocab_size=2048,
    )


def write_weights(config: Pi05Config, path: Path) -> None:
    """Random weights of a trained model's size."""
    with torch.device("meta"):
        shapes = {name: p.shape for name, p in Pi05(config).named_parameters()}
    generator = torch.Generator().manual_seed(0)
    save_file(
        {name: torch.randn(shape, generator=generator) * 0.5 * shape[-1] ** -0.5 for name, shape in shapes.items()},
        path,
    )


def write_inputs(config: Pi05Config, batch: int, cameras: int, text: int, path: Path) -> None:
    """Three camera slots of which `cameras` are seen, and `text` of 200 tokens: as LeRobot's processor pads them."""
    generator = torch.Generator().manual_seed(batch)
    size, chunk = config.vision.image_size, (batch, config.horizon, config.action_dim)
    tokens = torch.randint(4, config.vocab_size, (batch, 200), generator=generator)
    token_mask = (torch.arange(200) < text).expand(batch, 200)
    image_mask = (torch.arange(3) < cameras).expand(batch, 3)
    images = torch.rand(batch, 3, 3, size, size, generator=generator) * 2 - 1
    inputs = {
        "images": torch.where(image_mask[..., None, None, None], images, -1.0),
        "image_mask": image_mask,
        "tokens": tokens * token_mask,
        "token_mask": token_mask,
        "actions": torch.randn(chunk, generator=generator),
        "noise": torch.randn(chunk, generator=generator),
        "time": torch.rand(batch, generator=generator),
    }
    save_file({name: value.contiguous() for name, value in inputs.items()}, path)


def run(who: str, python: str, folder: Path, memory: bool = False) -> dict[str, Any]:
    """One contender once; for `memory`, with an allocator that gives every tensor back at once, which costs time."""
    exact = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"} if memory else {}
    command, words = [python, str(RUNNER), who, str(folder)], os.environ | exact
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=words)
    if done.returncode:
        raise SystemExit(f"{who} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def compare(folder: Path, python: str, rounds: int) -> dict[str, dict[str, float]]:
    """Medians over the rounds, by contender; both must have had the same loss."""
    runs: dict[str, list[dict[str, Any]]] = {"ours": [], "lerobot": []}
    for _ in range(rounds):
        for who, interpreter in (("ours", sys.executable), ("lerobot", python)):
            runs[who].append(run(who, interpreter, folder))
    tolerance = 2e-2 if json.loads((folder / "case.json").read_text())["autocast"] else 1e-4
    for name in ("loss", "grad_norm"):
        mine, theirs = runs["ours"][0][name], runs["lerobot"][0][name]
        if abs(mine - theirs) > tolerance * abs(theirs):
            raise SystemExit(f"not the same step: {name} is {mine} here and {theirs} there")
    found = {
        who: {name: statistics.median(r[name] for r in rows) for name in ("seconds", "cpu_seconds")}
        for who, rows in runs.items()
    }
    for who, interpreter in (("ours", sys.executable), ("lerobot", python)):
        found[who]["peak_bytes"] = run(who, interpreter, folder, memory=True)["peak_bytes"]
    return found


def row(words: str, batch: int, found: dict[str, dict[str, float]]) -> str:
    """A line of the table."""
    ours, theirs = found["ours"], found["lerobot"]
    memory = " | ".join(f"{who['peak_bytes'] / 2**20:,.0f}" for who in (ours, theirs))
    speed = " | ".join(f"{batch / who['seconds']:.2f}" for who in (ours, theirs))
    ratios = [theirs[name] / ours[name] for name in ("seconds", "cpu_seconds")]
    return (
        f"| {words} | {batch} | {speed} | {ratios[0]:.2f} | {ratios[1]:.2f} | {memory} | "
        f"{ours['peak_bytes'] / theirs['peak_bytes']:.2f} |"
    )


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="the published size")
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--width", type=int, default=256, help="of the VLM; the expert has half of it")
    parser.add_argument("--batch", type=int, nargs="+", default=[2, 8])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--autocast", action="store_true", help="bfloat16 products over float32 weights")
    parser.add_argument("--checkpointing", action="store_true", help="recompute activations, as each project does it")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    python = os.environ.get("VLA_LEROBOT_PYTHON", "")
    if not Path(python).is_file():
        raise SystemExit(SET_UP)
    config = sizes(options.full, options.depth, options.width)
    print("| case | batch | ours, samples/s | LeRobot | ratio | of CPU s | ours, peak MiB | LeRobot | ratio |")
    print("|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_weights(config, folder / "weights.safetensors")
        case = {field: getattr(options, field) for field in ("device", "autocast", "checkpointing", "steps")}
        case |= {"horizon": config.horizon, "vision_heads": config.vision.num_heads, "head_dim": config.vlm.head_dim}
        (folder / "case.json").write_text(json.dumps(case))
        for words, cameras, text in (("2 of 3 cameras, 70 of 200 tokens", 2, 70), ("all of both", 3, 200)):
            for batch in options.batch:
                write_inputs(config, batch, cameras, text, folder / "inputs.safetensors")
                print(row(words, batch, compare(folder, python, options.rounds)), flush=True)


if __name__ == "__main__":
    main()
