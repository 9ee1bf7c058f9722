"""Small LeRobot data sets with known content."""

from pathlib import Path

import numpy as np

from data_mixtures.lerobot.writer import LeRobotWriter

FPS = 10
TASKS = ("open the door", "press the button")
SUBTASKS = [(0, "reach the thing"), (9, "move the thing")]


def moving_frames(length: int, size: int, seed: int) -> np.ndarray:
    """Smooth uint8 [length, size, size, 3] pictures that drift; what a codec is made for."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (size // 8, size // 8, 3)).astype(np.float64)
    picture = coarse.repeat(8, axis=0).repeat(8, axis=1)
    for axis in (0, 1):
        picture = sum(np.roll(picture, shift, axis=axis) for shift in range(-4, 5)) / 9
    return np.stack([np.roll(picture, step, axis=1) for step in range(length)]).round().astype(np.uint8)


def numerics(length: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "observation.state": rng.uniform(0, 1, (length, 4)).astype(np.float32),
        "action": rng.uniform(-1, 1, (length, 4)).astype(np.float32),
    }


def write_dataset(
    root: Path, lengths: list[int], cameras: tuple[str, ...] = ("corner",), size: int = 32, seed: int = 0
) -> Path:
    """Episodes of these lengths, tasks alternating, sub-tasks in all but the last."""
    features = {"observation.state": 4, "action": 4}
    with LeRobotWriter(root, FPS, "metaworld_sawyer", dict.fromkeys(cameras, (size, size)), features) as writer:
        for episode, length in enumerate(lengths):
            key = seed + 100 * episode
            writer.add_episode(
                {camera: moving_frames(length, size, key + index) for index, camera in enumerate(cameras)},
                numerics(length, key),
                TASKS[episode % len(TASKS)],
                SUBTASKS if episode < len(lengths) - 1 else [],
                {"success": episode % 2 == 0, "seed": episode},
            )
    return root
