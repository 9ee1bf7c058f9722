"""A folder as LeRobot writes it itself: `PEER_PYTHON lerobot_rewritten.py FOLDER TARGET VISION_HEADS HEAD_DIM`.

Loads FOLDER with LeRobot and saves policy and pipelines with LeRobot's own `save_pretrained`.
"""

import sys
from pathlib import Path

from lerobot_policy import load


def main(folder: Path, target: Path, vision_heads: int, head_dim: int) -> None:
    """Read one folder, write the other."""
    policy, before, after, _ = load(folder, vision_heads, head_dim)
    for part in (policy, before, after):
        part.save_pretrained(target)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
