"""Speed of a training step in the demo's recipes, and the share of it spent waiting for data.

Runs the recipes as they are, on made-up episodes, for a few dozen steps. The share should stay in the low percents:
image decoding must not starve the step.
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path

import numpy as np

from data_mixtures.lerobot.writer import LeRobotWriter
from recipes.loading import load_recipe

RECIPES = Path(__file__).resolve().parents[1] / "recipes" / "demo"
EPISODES, LENGTH, SIZE = 24, 60, 64


def write_dataset(root: Path) -> Path:
    """Noise in one camera."""
    rng = np.random.default_rng(0)
    features = {"observation.state": 4, "action": 4}
    with LeRobotWriter(root, 10, "metaworld_sawyer", {"corner": (SIZE, SIZE)}, features) as writer:
        for _ in range(EPISODES):
            frames = rng.integers(0, 256, (LENGTH, SIZE, SIZE, 3)).astype(np.uint8)
            columns = {name: rng.random((LENGTH, 4), dtype=np.float32) for name in features}
            writer.add_episode({"corner": frames}, columns, "a task", [(0, "reach"), (20, "grasp")])
    return root


def run(name: str, data: Path, folder: Path, steps: int) -> list[dict[str, float]]:
    """Train `name` for `steps` steps on the data set; the metrics lines after the first third, which warms up."""
    overrides = {
        "run": str(folder),
        "data.datasets": [{"path": str(data)}],
        "data.cameras": ["corner"],
        "loop.steps": steps,
        "loop.log_every": max(1, steps // 12),
        "loop.save_every": 0,
        "loop.eval_every": 0,
        "optim.warmup_steps": 0,
    }
    if name == "lam":
        overrides["heldout"] = None
    recipe = load_recipe(RECIPES / f"{name}.yaml", overrides)
    recipe.check(made=set())
    recipe.execute()
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return lines[len(lines) // 3 :]


def main() -> None:
    """Print one row a recipe, as a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=60)
    options = parser.parse_args()
    print("| recipe | samples/s (median) | waiting for data |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        data = write_dataset(Path(folder) / "episodes")
        for name in ("lam", "finetune"):
            lines = run(name, data, Path(folder) / name, options.steps)
            speed = statistics.median(line["samples_per_s"] for line in lines)
            waiting = statistics.median(line["data_wait_share"] for line in lines)
            print(f"| {name} | {speed:,.0f} | {waiting:.1%} |", flush=True)


if __name__ == "__main__":
    main()
