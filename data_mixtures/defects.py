"""What can be wrong with recorded data: named, so that it can be counted, quarantined and shown."""

from dataclasses import dataclass
from typing import Literal

DefectKind = Literal[
    "unreadable",  # a file that cannot be opened or parsed
    "truncated",  # a file, tar or shard that ends too early
    "checksum",  # bytes that are not what was written
    "video",  # frames missing, or a stream that does not decode
    "length",  # columns, states, actions or frames that disagree in number
    "column",  # a field that is missing, misnamed or of the wrong shape
    "not_finite",  # NaN or infinity where a number must be
    "empty",  # an episode without frames
    "changed",  # a file that is not the one that was opened
]


@dataclass(frozen=True)
class Defect:
    """One thing wrong with one data set.

    Attributes:
        key: the episode's `Episode.key`, or the file's path below the root where no episode can be named.
        kind: see `DefectKind`.
        detail: what was found where, and what was expected, in words.
    """

    key: str
    kind: DefectKind
    detail: str


class BadEpisodeError(ValueError):
    """This episode cannot be used; the others of its data set can."""

    def __init__(self, key: str, kind: DefectKind, detail: str) -> None:
        super().__init__(f"{key}: {detail} ({kind})")
        self.defect = Defect(key, kind, detail)

    def __reduce__(self) -> tuple[type, tuple[str, str, str]]:  # so that it crosses process borders
        return type(self), (self.defect.key, self.defect.kind, self.defect.detail)
