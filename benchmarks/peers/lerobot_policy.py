"""A folder through LeRobot's own loader: `PEER_PYTHON lerobot_policy.py FOLDER IN.npz OUT.npz VISION_HEADS HEAD_DIM`.

The policy comes from `PI05Policy.from_pretrained`, the pipelines from `make_pre_post_processors`; only the table of
sizes is replaced, for folders that are not of a published one. IN holds n observations: image_<row>_<camera> uint8
[H, W, 3] (a camera may be left out), state float32 [n, d], task [n], noise float32 [n, S, A]. OUT holds actions
float32 [n, S, d], tokens [n, N] and their mask, and what LeRobot printed while it loaded.
"""

# pyright: reportMissingImports=false

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lerobot.configs import PreTrainedConfig
from lerobot.policies import make_pre_post_processors
from lerobot.policies.pi05.modeling_pi05 import PI05Policy
from lerobot.processor import ProcessorStep
from lerobot_model import sized
from peer_weights import PeerWeights


def load(folder: Path, vision_heads: int, head_dim: int) -> tuple[Any, Any, Any, str]:
    """Policy, preprocessor, postprocessor, and what was printed."""
    horizon = json.loads((folder / "config.json").read_text())["chunk_size"]
    weights = PeerWeights.open(folder, horizon, vision_heads, head_dim)
    printed = io.StringIO()
    with sized(weights.config), contextlib.redirect_stdout(printed):
        policy = PI05Policy.from_pretrained(str(folder))
    config = PreTrainedConfig.from_pretrained(str(folder))
    overrides = {} if hasattr(ProcessorStep, "save_artifacts") else _tokenizer_override(folder)
    pipelines = make_pre_post_processors(config, pretrained_path=str(folder), preprocessor_overrides=overrides)
    return policy, *pipelines, printed.getvalue()


def _tokenizer_override(folder: Path) -> dict[str, Any]:
    """LeRobot 0.6.1 looks for tokenizers by a path or on the Hub, and not in the folder."""
    return {"tokenizer_processor": {"tokenizer_name": str(folder / "tokenizer")}}


def main(folder: Path, source: Path, target: Path, vision_heads: int, head_dim: int) -> None:
    """Actions of every observation, alone, from its own noise."""
    policy, before, after, printed = load(folder, vision_heads, head_dim)
    given = dict(np.load(source))
    found: dict[str, list[np.ndarray]] = {"actions": [], "tokens": [], "mask": []}
    for row, task in enumerate(given["task"]):
        images = {
            name.replace(f"image_{row}_", "observation.images.", 1): torch.from_numpy(frame).permute(2, 0, 1) / 255
            for name, frame in given.items()
            if name.startswith(f"image_{row}_")
        }
        seen = before({**images, "observation.state": torch.from_numpy(given["state"][row]), "task": str(task)})
        chunk = policy.predict_action_chunk(seen, noise=torch.from_numpy(given["noise"][row : row + 1]))
        found["actions"].append(torch.stack([after(action) for action in chunk.unbind(1)], dim=1)[0].numpy())
        found["tokens"].append(seen["observation.language.tokens"][0].numpy())
        found["mask"].append(seen["observation.language.attention_mask"][0].numpy())
    answers: dict[str, Any] = {name: np.stack(rows) for name, rows in found.items()}
    np.savez(target, printed=printed, **answers)


if __name__ == "__main__":
    folder, source, target = map(Path, sys.argv[1:4])
    main(folder, source, target, int(sys.argv[4]), int(sys.argv[5]))
