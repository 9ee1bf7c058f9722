"""Shares that are really drawn, sizes and epochs, and sets that are not there."""

import json
from pathlib import Path

import numpy as np
import pytest
from made_episodes import MadeReader

from data_mixtures.config import DatasetConfig, MixtureConfig
from data_mixtures.defects import Defect
from data_mixtures.mixture_summary import MixtureSummary, drawn_shares, summarise, write_mixture_page

SETS = {
    "data/door": MadeReader([100] * 50),
    "data/video": MadeReader([30, 50], video_only=True),
    "data/broken": MadeReader([5], bad={0: Defect("", "truncated", "it ends early")}),
}


def open_made(dataset: DatasetConfig) -> MadeReader:
    if dataset.path not in SETS:
        raise ValueError(f"{dataset.path} is not there")
    return SETS[dataset.path]


@pytest.fixture(scope="module")
def summary() -> MixtureSummary:
    config = MixtureConfig(
        [
            DatasetConfig("data/door", 3.0),
            DatasetConfig("data/video", 0.9),
            DatasetConfig("data/absent", 6.0, source="the moon"),
            DatasetConfig("data/broken", 0.1),
        ],
        ["primary"],
    )
    return summarise(config, open_made, seed=3, draws=200_000, episodes=5)


def test_shares_wanted_and_drawn(summary: MixtureSummary):
    assert [row.share for row in summary.rows] == pytest.approx([0.3, 0.09, 0.6, 0.01])
    for row in summary.rows:
        spread = (row.share * (1 - row.share) / summary.draws) ** 0.5
        assert abs(row.drawn - row.share) < 4 * spread
    assert sum(row.drawn for row in summary.rows) == pytest.approx(1)


def test_the_draws_are_those_of_the_sampler_whatever_their_number():
    from data_mixtures.sampler import Sampler

    dataset, _ = Sampler([1, 2, 5], [7, 7, 7], seed=11).draw(np.arange(150_000))  # more than one block
    assert drawn_shares([1, 2, 5], 11, 150_000).tolist() == (np.bincount(dataset) / 150_000).tolist()


def test_sizes_and_epochs(summary: MixtureSummary):
    door, video, *_ = summary.rows
    assert door.size
    assert (door.size.episodes, door.size.episodes_read, door.size.estimated) == (50, 5, True)
    assert door.size.frames == 5000
    assert door.size.hours == pytest.approx(500 / 3600)
    assert (door.size.rate_hz, door.size.robot_type) == (10, "arm")
    assert door.epochs_per_million == pytest.approx(1e6 * 0.3 / 5000)
    assert video.size
    assert not video.size.estimated
    assert video.size.frames == 80


def test_what_is_missing_still_has_its_weight_and_says_what_to_do(summary: MixtureSummary):
    absent, broken = summary.missing
    assert (absent.name, absent.weight, absent.source) == ("absent", 6.0, "the moon")
    assert absent.problem == "data/absent is not there"
    assert absent.epochs_per_million is None
    assert "it ends early" in broken.problem
    rows = json.loads(json.dumps(summary.as_json()))["datasets"]
    assert rows[2]["epochs_per_million"] is None


def test_the_page_names_every_set(summary: MixtureSummary, tmp_path: Path):
    page = write_mixture_page(summary, "my <mixture>", tmp_path / "m.html").read_text()
    for row in summary.rows:
        assert row.name in page
    assert "my &lt;mixture&gt;" in page
    assert "Get it from the moon" in page
    assert page.index(">absent<") < page.index(">door<") < page.index(">video<")  # by weight
