"""Training shards as a `Reader`: to look at what was ingested, or to convert it, like any other data set."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from data_mixtures.defects import Defect
from data_mixtures.episode import Episode, check_episode
from data_mixtures.shards.shard_frames import open_shards, read_keys


class ShardsReader:
    """The usable episodes of a sharded data set, with the keys their first reader gave them; see `Reader`.

    `defects` are the episodes that were left out when it was made.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = str(root)
        self._index, self._frames = open_shards(root)
        self.robot_type: str = self._index.meta.robot_type
        self.cameras: Sequence[str] = self._index.meta.cameras
        self.defects: Sequence[Defect] = self._index.quarantined
        self._keys = read_keys(Path(root))

    def __len__(self) -> int:
        return self._index.num_episodes

    def key(self, index: int) -> str:
        """The name of episode `index`."""
        return self._keys[index]

    def episode(self, index: int) -> Episode:
        """Episode `index`, from the memory maps."""
        first, stop = self._index.first_row[index : index + 2].tolist()
        rotation = self._index.camera_rotation(np.arange(first, stop))
        episode = Episode(
            key=self.key(index),
            instruction=self._index.texts[int(self._index.task[index])],
            subtasks=self._index.subtask_spans(index),
            fps=float(self._index.fps[index]),
            robot_type=self.robot_type,
            numerics=self._index.numerics(np.arange(first, stop)),
            cameras=self.cameras,
            read_frames=partial(self.frames, index),
            info={} if rotation is None else {"camera_rotation": rotation},
            robot=self._index.robot,
        )
        check_episode(episode)
        return episode

    def frames(self, index: int, camera: str, numbers: np.ndarray) -> np.ndarray:
        """Frames of episode `index`, int64 [n] in any order -> uint8 [n, H, W, 3], RGB, as ingested."""
        first, stop = self._index.first_row[index : index + 2].tolist()
        numbers = np.asarray(numbers, dtype=np.int64)
        if len(numbers) and not 0 <= numbers.min() <= numbers.max() < stop - first:
            raise ValueError(f"frames {numbers.min()}..{numbers.max()}: {self.key(index)} has 0..{stop - first - 1}")
        images = self._frames.images(camera, first + numbers, self._frames.meta.size)
        return images.transpose(0, 2, 3, 1)

    @property
    def fingerprint(self) -> str:
        """A name for this content and the settings it was made with."""
        return self._index.meta.fingerprint
