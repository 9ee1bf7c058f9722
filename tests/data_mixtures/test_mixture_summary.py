"""Shares that are really drawn, sizes and epochs, and sets that are not there."""

import json
from pathlib import Path

import numpy as np
import pytest

from data_mixtures.config import DatasetConfig, MixtureConfig
from data_mixtures.sampling.sampler import Sampler
from data_mixtures.summaries.mixture_summary import (
    MixtureSummary,
    SetSize,
    drawn_shares,
    exact_size,
    rough_size,
    summarise,
    write_mixture_page,
)

SIZES = {
    "memory://data/door": SetSize(50, 5000.0, 500 / 3600, 10.0, "arm", ["primary"], estimated=True),
    "memory://data/video": SetSize(2, 80, 8 / 3600, 10.0, "", ["primary"], estimated=False),
}


def measure(dataset: DatasetConfig) -> SetSize:
    if dataset.path not in SIZES:
        raise ValueError(f"{dataset.path} is of no format that is read")
    return SIZES[dataset.path]


@pytest.fixture(scope="module")
def summary() -> MixtureSummary:
    sets = [
        DatasetConfig("memory://data/door", weight=3.0),
        DatasetConfig("memory://data/video", weight=0.9),
        DatasetConfig("data/absent", weight=6.0, source="the moon"),
        DatasetConfig("memory://data/unknown", weight=0.1),
    ]
    return summarise(MixtureConfig(sets, ["primary"]), measure, seed=3, draws=200_000)


def test_shares_wanted_and_drawn(summary: MixtureSummary):
    assert [row.share for row in summary.rows] == pytest.approx([0.3, 0.09, 0.6, 0.01])
    for row in summary.rows:
        spread = (row.share * (1 - row.share) / summary.draws) ** 0.5
        assert abs(row.drawn - row.share) < 4 * spread
    assert sum(row.drawn for row in summary.rows) == pytest.approx(1)


def test_the_draws_are_those_of_the_sampler_whatever_their_number():
    dataset, _ = Sampler([1, 2, 5], [7, 7, 7], seed=11).draw(np.arange(150_000))  # more than one block
    assert drawn_shares([1, 2, 5], 11, 150_000).tolist() == (np.bincount(dataset) / 150_000).tolist()


def test_epochs_count_windows(summary: MixtureSummary):
    door, video, *_ = summary.rows
    assert door.epochs_per_million == pytest.approx(1e6 * 0.3 / 5000)
    assert video.epochs_per_million == pytest.approx(1e6 * 0.09 / 80)
    assert summary.hours == pytest.approx(508 / 3600)


def test_what_is_missing_still_has_its_weight_and_says_what_to_do(summary: MixtureSummary):
    absent, unknown = summary.missing
    assert (absent.name, absent.weight, absent.source) == ("absent", 6.0, "the moon")
    assert absent.problem == "data/absent does not exist"
    assert absent.epochs_per_million is None
    assert (unknown.problem, unknown.source) == ("memory://data/unknown is of no format that is read", "")
    rows = json.loads(json.dumps(summary.as_json()))["datasets"]
    assert rows[2]["epochs_per_million"] is None


def test_the_page_names_every_set(summary: MixtureSummary, tmp_path: Path):
    page = write_mixture_page(summary, "my <mixture>", tmp_path / "m.html").read_text()
    for row in summary.rows:
        assert row.name in page
    assert "my &lt;mixture&gt;" in page
    assert "get it from the moon" in page
    assert page.index(">absent<") < page.index(">door<") < page.index(">video<")  # by weight


def test_a_set_is_measured_through_its_reader_and_its_index(door_root: Path):
    whole = exact_size(DatasetConfig(str(door_root)))
    assert (whole.episodes, whole.frames, whole.rate_hz) == (8, sum(range(20, 28)), 10)
    assert whole.hours == pytest.approx(sum(range(20, 28)) / 10 / 3600)
    assert (whole.robot_type, whole.cameras, whole.estimated) == ("metaworld_sawyer", ["corner", "wrist"], False)
    assert rough_size(DatasetConfig(str(door_root))) == whole  # its index is there now
    # Episodes alternate between two tasks, so the first of each are those of 20 and 21 frames.
    held_out = exact_size(DatasetConfig(str(door_root), skip_per_task=1))
    assert (held_out.episodes, held_out.frames) == (6, sum(range(22, 28)))
    labelled = exact_size(DatasetConfig(str(door_root), labelled_share=0.25, only_labelled=True))
    assert labelled.episodes == 2


def test_a_set_without_an_index_is_measured_from_some_episodes(other_root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("data_mixtures.summaries.mixture_summary._EPISODES_TRIED", 2)
    monkeypatch.setattr("data_mixtures.summaries.mixture_summary.cache_folder", lambda reader: Path("nowhere"))
    size = rough_size(DatasetConfig(str(other_root)))
    assert (size.episodes, size.frames, size.estimated) == (4, 88, True)


def test_a_missing_folder_is_a_value_error(tmp_path: Path):
    for measured in (rough_size, exact_size):
        with pytest.raises(ValueError, match="nothing"):
            measured(DatasetConfig(str(tmp_path / "nothing")))
