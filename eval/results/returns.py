"""From episodes that are measured by return to the one number of a run: `measure: return` of published tables."""

from collections.abc import Sequence

from eval.results.row import EpisodeRow

NORMALISED = "normalised_return"
"""The reading tables quote; between which returns it lies is in the rows' protocol, `normalised_by`."""


def is_measured_by_return(row: EpisodeRow) -> bool:
    """Whether an episode's outcome is a return: its success flags then say nothing."""
    return NORMALISED in row.readings


def mean_return(rows: Sequence[EpisodeRow], reading: str = NORMALISED) -> float:
    """The mean of a reading over one run's episodes; 1 is the expert's where it is the normalised return.

    A table's cell is the mean of these over training seeds, with their standard error.

    Args:
        rows: Of one policy on one task; those that could not be played are left out, as everywhere.
        reading: `normalised_return`, `d4rl_normalised_return` or `return`.

    Raises:
        ValueError: no episode was played, one has no such reading, or they are of several tasks or protocols.
    """
    played = [row for row in rows if row.error is None]
    if not played:
        raise ValueError("rows: no episode was played, so there is no mean return")
    for name in ("task", "protocol_hash", "checkpoint"):
        if len(found := sorted({getattr(row, name) for row in played})) > 1:
            raise ValueError(f"rows: they are of several {name}s, {found[0]} and {found[1]}; average them apart")
    values = [row.readings.get(reading) for row in played]
    for row, value in zip(played, values, strict=True):
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise ValueError(f"{row.case} has no reading {reading!r}, only {sorted(row.readings)}; it has no return")
    return sum(map(float, values)) / len(values)  # type: ignore[arg-type]
