"""A robot's model in a LeRobot folder, and observations of it; run as a script, this records LeRobot's answers.

    VLA_LEROBOT_PYTHON=... python -m tests.vla.models.pi05.lerobot_cases

writes golden/lerobot_actions.npz, what LeRobot's own loader, pipelines and network make of `write_folder`'s folder, and
golden/lerobot_written, the small files LeRobot's head writes when it saves that model itself.
"""

import os
import shutil
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save_file

from data_mixtures.spaces.embodiments import Embodiment
from data_mixtures.spaces.recorded_columns import RecordedColumns
from data_mixtures.statistics.normalisation import Guard, Normalisation, Quantiles
from tests.vla.models.pi05.students import TASKS, randomise
from vla.models.pi05 import lerobot_folder
from vla.models.pi05.config import GemmaConfig, Pi05Config, VisionConfig
from vla.models.pi05.model import Pi05
from vla.models.pi05.processor import Processor
from vla.models.pi05.tokenizer import PromptTokenizer
from vla.policy import Observation, Policy

GOLDEN = Path(__file__).parent / "golden" / "lerobot_actions.npz"
WRITTEN = Path(__file__).parent / "golden" / "lerobot_written"
PEERS = Path(__file__).parents[4] / "benchmarks" / "peers"
STATE_DIM, ACTION_DIM, SEEDS = 6, 5, [3, 4, 5]
# LeRobot writes 8 heads and 1 for keys into its code.
CONFIG = Pi05Config(
    vision=VisionConfig(width=24, depth=2, mlp_dim=40, num_heads=3, patch_size=8, image_size=24),
    vlm=GemmaConfig(width=32, depth=2, mlp_dim=48, num_heads=8, num_kv_heads=1, head_dim=8),
    expert=GemmaConfig(width=24, depth=2, mlp_dim=40, num_heads=8, num_kv_heads=1, head_dim=8),
    vocab_size=1024,
    action_dim=8,
    horizon=6,
    num_steps=4,
    max_text_tokens=64,
    noisy_padding=True,
)


def normalisation(guard: Guard) -> Normalisation:
    """Joints in degrees; the state's third and the action's second never move."""
    low, high = np.linspace(-90.0, -10.0, STATE_DIM), np.linspace(20.0, 95.0, STATE_DIM)
    low[2] = high[2] = 7.25
    action_low, action_high = np.linspace(-1.0, 40.0, ACTION_DIM), np.linspace(1.5, 80.0, ACTION_DIM)
    action_low[1] = action_high[1] = -3.5

    def padded(values: np.ndarray, width: int) -> tuple[float, ...]:
        return tuple(np.pad(values, (0, width - len(values))).tolist())

    return Normalisation(
        Quantiles(padded(low, 46), padded(high, 46)),
        Quantiles(padded(action_low, 44), padded(action_high, 44)),
        "recorded",
        guard,
    )


def processor(guard: Guard = "still", **fields: Any) -> Processor:
    """Of a robot of 6 numbers and 5 commands with two cameras."""
    robot = Embodiment("six", recorded=RecordedColumns(list(range(STATE_DIM)), list(range(ACTION_DIM))))
    made = Processor(CONFIG, PromptTokenizer.train(TASKS, 1024), normalisation(guard), ("front", "wrist"), robot)
    return replace(made, **fields)


def student(config: Pi05Config = CONFIG) -> Pi05:
    model = Pi05(config)
    randomise(model, seed=11)
    return model.eval()


def write_folder(folder: Path, made: Processor, model: Pi05 | None = None) -> Path:
    """What a run leaves."""
    state = (model or student(made.model)).state_dict()
    save_file({name: value.contiguous() for name, value in state.items()}, folder / "model.safetensors")
    made.save(folder)
    lerobot_folder.write(folder, made)
    return folder


def observations() -> list[Observation]:
    """Of several sizes; the states reach beyond the quantiles, and the one that never moved is where it was."""
    rng = np.random.default_rng(5)
    shapes = [(24, 24), (30, 20), (17, 41)]
    states = rng.uniform(-120, 120, (3, STATE_DIM)).astype(np.float32)
    states[:, 2] = 7.25
    return [
        Observation(
            {name: rng.integers(0, 256, (*shape, 3), dtype=np.uint8) for name in ("front", "wrist")}, state, task
        )
        for shape, state, task in zip(shapes, states, [TASKS[0], "  push_the\nbutton ", TASKS[2]], strict=True)
    ]


def noise_of(policy: Policy) -> np.ndarray:
    """What `act_many(observations(), SEEDS)` starts from."""
    seen = [policy._unified(observation) for observation in observations()]
    return policy._inputs(seen, SEEDS)[1].numpy()


def ask_lerobot(python: str, folder: Path, place: Path, source: str | None = None) -> dict[str, np.ndarray]:
    """LeRobot's answers to the observations, from a folder; `source` is another LeRobot than the interpreter's."""
    given: dict[str, Any] = {
        f"image_{row}_{name}": frame for row, seen in enumerate(observations()) for name, frame in seen.images.items()
    }
    given["state"] = np.stack([seen.state for seen in observations()])
    given["task"] = [seen.instruction for seen in observations()]
    np.savez(place / "in.npz", noise=noise_of(Policy.from_pretrained(folder)), **given)
    _run(python, "lerobot_policy.py", folder, place / "in.npz", place / "out.npz", source=source)
    return dict(np.load(place / "out.npz"))


def rewrite(python: str, folder: Path, target: Path) -> None:
    """Let LeRobot load a folder and save it as another."""
    _run(python, "lerobot_rewritten.py", folder, target)


def _run(python: str, script: str, *paths: Path, source: str | None = None) -> None:
    heads = (str(CONFIG.vision.num_heads), str(CONFIG.vlm.head_dim))
    told = subprocess.run(
        [python, str(PEERS / script), *map(str, paths), *heads], capture_output=True, text=True, check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1"} | ({"PYTHONPATH": source} if source else {}),
    )  # fmt: skip
    assert told.returncode == 0, told.stderr[-3000:]


def _record(python: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        (place / "model").mkdir()
        folder = write_folder(place / "model", processor())
        answers = ask_lerobot(python, folder, place)
        rows: dict[str, Any] = {name: answers[name] for name in ("actions", "tokens", "mask")}
        np.savez_compressed(GOLDEN, **rows)
        rewrite(python, folder, place / "again")
        shutil.rmtree(WRITTEN, ignore_errors=True)
        shutil.copytree(place / "again", WRITTEN, ignore=shutil.ignore_patterns("model.safetensors", "tokenizer"))


if __name__ == "__main__":
    _record(os.environ["VLA_LEROBOT_PYTHON"])
