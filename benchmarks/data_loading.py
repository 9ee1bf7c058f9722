"""Windows a second out of a mixture, one core: python benchmarks/data_loading.py.

Measured on one core of a 2-core machine, 64 px: 42,000 single-frame windows a second with one camera, 10,000 of five
frames; opening a decoded data set takes 10 ms.
"""

import tempfile
import time
from pathlib import Path

import numpy as np

from data_mixtures.config import DatasetConfig, MixtureConfig, WindowConfig
from data_mixtures.lerobot_writer import LeRobotWriter
from data_mixtures.mixture import Mixture

SIZE, EPISODES, LENGTH, BATCH, BATCHES = 64, 60, 40, 32, 200


def write_dataset(root: Path) -> Path:
    """Noise in two cameras."""
    rng = np.random.default_rng(0)
    cameras = {"corner": (SIZE, SIZE), "wrist": (SIZE, SIZE)}
    with LeRobotWriter(root, 10, "metaworld_sawyer", cameras, {"observation.state": 4, "action": 4}) as writer:
        for _ in range(EPISODES):
            frames = {name: rng.integers(0, 256, (LENGTH, SIZE, SIZE, 3)).astype(np.uint8) for name in cameras}
            columns = {name: rng.random((LENGTH, 4), dtype=np.float32) for name in ("observation.state", "action")}
            writer.add_episode(frames, columns, "a task", [(0, "reach"), (20, "grasp")])
    return root


def measure(root: Path, cameras: list[str], frames: int) -> None:
    """Print opening and gathering times of one window shape."""
    config = MixtureConfig([DatasetConfig(str(root))], cameras, WindowConfig(frames, 16), SIZE)
    Mixture(config, seed=0).batch(range(BATCH))  # decodes
    started = time.perf_counter()
    mixture = Mixture(config, seed=0)
    opened = time.perf_counter()
    for step in range(BATCHES):
        mixture.batch(range(step * BATCH, (step + 1) * BATCH))
    rate = BATCHES * BATCH / (time.perf_counter() - opened)
    shape = f"{frames} frame(s) x {len(cameras)} camera(s)"
    print(f"{shape:28s} {rate:9,.0f} windows/s   opened in {1e3 * (opened - started):.0f} ms")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        path = write_dataset(Path(folder) / "data")
        for names, count in ((["corner"], 1), (["corner"], 5), (["corner", "wrist"], 5)):
            measure(path, names, count)
