"""A run's folder: protocol.json, episodes.jsonl (a line is on disk before the next begins), results.parquet."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_mixtures.storage.whole_file import write_whole
from eval.results.row import EpisodeRow, write_parquet

EPISODES, RESULTS, PROTOCOL = "episodes.jsonl", "results.parquet", "protocol.json"


class Store:
    """The episodes of one run, by `Case.key`; opened again it goes on where it was killed.

    A line that a kill cut short is dropped, and so are the rows of episodes that could not be played: those are tried
    again.

    Args:
        folder: Made if it is not there.
        maker: What decides the results; a folder of another maker is refused.

    Raises:
        ValueError: the folder holds another run's episodes, or a line in the middle of them is damaged.
    """

    def __init__(self, folder: Path, maker: Mapping[str, Any]) -> None:
        self.folder = folder
        marker, text = folder / PROTOCOL, json.dumps(maker, indent=2, sort_keys=True)
        self._path = folder / EPISODES
        if self._path.exists() and marker.exists() and marker.read_text() != text:
            raise ValueError(
                f"out_dir: {folder} holds episodes of another policy or protocol ({_difference(marker, text)}); name "
                "another folder, or delete it"
            )
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(marker, text)
        self.rows: dict[str, EpisodeRow] = {row.case: row for row in self._kept()}

    def _kept(self) -> list[EpisodeRow]:
        """The rows that stand; the file is rewritten where it holds more than them."""
        if not self._path.exists():
            return []
        raw = self._path.read_text()
        lines = raw[: raw.rfind("\n") + 1].splitlines()
        rows = [row for number, line in enumerate(lines, 1) if (row := self._row(number, line)).error is None]
        kept = "".join(_line(row) for row in rows)
        if kept != raw:
            write_whole(self._path, kept)
        return rows

    def _row(self, number: int, line: str) -> EpisodeRow:
        try:
            return EpisodeRow.from_json(json.loads(line))
        except ValueError as error:
            raise ValueError(f"{self._path}, line {number}: {error}; delete the line to play it again") from error

    def add(self, row: EpisodeRow) -> None:
        """Append a row and wait until it is on disk."""
        self.rows[row.case] = row
        with self._path.open("a") as file:
            file.write(_line(row))
            file.flush()
            os.fsync(file.fileno())

    def write_results(self, order: Sequence[str]) -> None:
        """Write results.parquet: every row there is, in the order of these keys."""
        write_parquet((self.rows[key] for key in order if key in self.rows), self.folder / RESULTS)


def _line(row: EpisodeRow) -> str:
    return json.dumps(row.to_json(), allow_nan=False) + "\n"


def _difference(marker: Path, text: str) -> str:
    for was, now in zip(marker.read_text().splitlines(), text.splitlines(), strict=False):
        if was != now:
            return f"`{was.strip()}` there, `{now.strip()}` here"
    return f"see {marker}"
