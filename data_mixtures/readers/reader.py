"""What every format's reader gives."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from data_mixtures.defects import Defect
from data_mixtures.episode import Episode


class Reader(Protocol):
    """One data set as published, opened without reading its episodes.

    Opening raises ValueError when the folder is not a data set of this format at all. Whatever is wrong with single
    episodes or files raises `BadEpisodeError` from `episode` or `frames`, and never another exception.
    """

    @property
    def root(self) -> str:
        """The data set's folder."""
        ...

    @property
    def robot_type(self) -> str:
        """The embodiment's name; '' where the data set does not say."""
        ...

    @property
    def cameras(self) -> Sequence[str]:
        """Camera names.

        Formats with fixed cameras call them primary, secondary, wrist (wrist_left, wrist_right); LeRobot and video
        folders keep the names they were given.
        """
        ...

    @property
    def defects(self) -> Sequence[Defect]:
        """What opening already found wrong: files that cannot hold the episodes they should."""
        ...

    def __len__(self) -> int:
        """Episodes, the unusable ones included."""
        ...

    def key(self, index: int) -> str:
        """The name of episode `index`, known without reading it."""
        ...

    def episode(self, index: int) -> Episode:
        """Episode `index`: numerics read and checked, videos opened but not decoded."""
        ...

    def frames(self, index: int, camera: str, numbers: np.ndarray) -> np.ndarray:
        """Frames of episode `index` with these numbers, int64 [n] in any order -> uint8 [n, H, W, 3], RGB."""
        ...

    @property
    def fingerprint(self) -> str:
        """A name for this content and the way it is read: 16 hexadecimal digits, from names, sizes and metadata."""
        ...
