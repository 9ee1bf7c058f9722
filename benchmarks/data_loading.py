"""How fast episodes are written, decoded once, and drawn as random windows.

Image decoding must not starve the training step: after the first pass frames come from a memory map, and a batch
should cost milliseconds. Synthetic episodes, two 64-pixel cameras, as in the demo.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from data_mixtures.config import DatasetConfig, MixtureConfig, WindowConfig
from data_mixtures.lerobot_writer import LeRobotWriter
from data_mixtures.mixture import Mixture

CAMERAS = ("corner", "gripper")


@contextmanager
def measured(what: str, count: int, unit: str) -> Iterator[None]:
    """Print how many `unit` a second the body did."""
    started = time.perf_counter()
    yield
    seconds = time.perf_counter() - started
    print(f"| {what} | {count / seconds:,.0f} {unit}/s | {seconds:.2f} s |", flush=True)


def moving_pictures(rng: np.random.Generator, length: int, size: int) -> np.ndarray:
    """uint8 [length, size, size, 3]: a bright square that wanders over a smooth background."""
    # Noise would not compress, and no video looks like it.
    ramp = np.linspace(0, 160, size)
    background = np.stack(
        [ramp[None] + 0 * ramp[:, None], ramp[:, None] + 0 * ramp[None], np.full((size, size), 80.0)], -1
    )
    frames = np.repeat(background[None].astype(np.uint8), length, axis=0)
    corner = np.clip(np.cumsum(rng.integers(-2, 3, (length, 2)), axis=0) + size // 2, 0, size - 8)
    for frame, (y, x) in zip(frames, corner, strict=True):
        frame[y : y + 8, x : x + 8] = 240
    return frames


def write(root: Path, episodes: int, length: int, size: int) -> None:
    """A data set of `episodes` x `length` frames in the demo's format."""
    rng = np.random.default_rng(0)
    dims = {"observation.state": 4, "action": 4}
    with LeRobotWriter(root, 26, "metaworld_sawyer", {name: (size, size) for name in CAMERAS}, dims) as writer:
        for _ in range(episodes):
            frames = {name: moving_pictures(rng, length, size) for name in CAMERAS}
            columns = {name: rng.uniform(-1, 1, (length, dim)).astype(np.float32) for name, dim in dims.items()}
            writer.add_episode(frames, columns, "push the square", subtasks=[(0, "reach"), (length // 2, "push")])


def main() -> None:
    """Print one row a measurement, as a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--length", type=int, default=40)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=64)
    options = parser.parse_args()
    total = options.episodes * options.length
    print("| measurement | rate | time |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "episodes"
        with measured("write episodes (parquet + H.264)", total * len(CAMERAS), "frames"):
            write(root, options.episodes, options.length, options.size)
        for frames in (1, 4):
            window = WindowConfig(frames=frames, horizon=16)
            config = MixtureConfig([DatasetConfig(str(root))], list(CAMERAS), window, image_size=options.size)
            mixture = Mixture(config, seed=0)
            if frames == 1:
                with measured("first batch (decodes every frame once)", total * len(CAMERAS), "frames"):
                    mixture.batch(range(options.batch))
            with measured(
                f"random windows of {frames} frame(s), batches of {options.batch}", 50 * options.batch, "samples"
            ):
                for step in range(50):
                    mixture.batch(range(step * options.batch, (step + 1) * options.batch))


if __name__ == "__main__":
    main()
