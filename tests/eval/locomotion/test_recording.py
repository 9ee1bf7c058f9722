"""Recordings: what is in them, that they go on and repeat, and that nothing is recorded over."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data_mixtures.config import DatasetConfig
from data_mixtures.readers.opening import open_reader
from eval.locomotion import recording, snapshots
from eval.locomotion.ars import LinearPolicy, SearchConfig
from eval.locomotion.episode import LocomotionEpisode
from eval.locomotion.recording import LocomotionRecordConfig, environment_seed, record_locomotion, spread
from eval.locomotion.snapshots import Snapshot, Snapshots, read_snapshots, train, write_snapshots
from eval.locomotion.tasks import References

CONFIG = LocomotionRecordConfig("hopper", play=10, expert=4, labelled=5, heldout=2, decisions=30, random_share=0.2)
SETS = ("play", "expert", "labelled", "heldout")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """No search: ten policies that do nothing, whose returns are said to be 0, 10, ... 90; how often it was asked."""
    asked = []

    def untrained(robot: str, config: SearchConfig, seed: int) -> Snapshots:
        asked.append(seed)
        policy = LinearPolicy(np.zeros((3, 11)), np.zeros(11), np.ones(11))
        found = [Snapshot(policy, number, 10.0 * number) for number in range(10)]
        return Snapshots(found, found[-1], References(0.0, 90.0))

    monkeypatch.setattr(recording, "train", untrained)
    return asked


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def infos(root: Path) -> pd.DataFrame:
    return pd.concat(pd.read_parquet(path) for path in sorted((root / "meta/episodes").rglob("*.parquet")))


def test_four_data_sets_of_a_robot_known_by_name(quick: list[int], tmp_path: Path) -> None:
    record_locomotion(CONFIG, tmp_path / "run")
    for name in SETS:
        reader = open_reader(DatasetConfig(str(tmp_path / "run" / name)))
        assert len(reader) == getattr(CONFIG, name)
        assert (reader.robot_type, list(reader.cameras)) == ("gymnasium_hopper", [])
        episode = reader.episode(0)
        assert episode.space == "recorded"
        assert episode.fps == 62.5
        assert (int(episode.numerics.state_mask[0].sum()), int(episode.numerics.action_mask[0].sum())) == (11, 3)
    assert json.loads((tmp_path / "run/references.json").read_text()) == {"random": 0.0, "expert": 90.0}


def test_recorded_actions_lead_to_the_recorded_states(quick: list[int], tmp_path: Path) -> None:
    record_locomotion(CONFIG, tmp_path / "run")
    reader = open_reader(DatasetConfig(str(tmp_path / "run/labelled")))
    table, episode = infos(tmp_path / "run/labelled"), LocomotionEpisode("hopper", seed=0)
    assert table["seed"].tolist() == [environment_seed(0, "labelled", index) for index in range(5)]
    for index, (seed, total) in enumerate(zip(table["seed"], table["return"], strict=True)):
        numerics = reader.episode(index).numerics
        episode.reset(int(seed))
        for state, action in zip(numerics.state, numerics.actions, strict=True):
            np.testing.assert_array_equal(episode.observation, state[:11])
            episode.step(action[:3])
        assert episode.total == pytest.approx(total)
        assert np.abs(numerics.actions).max() <= 1.0


def test_the_first_few_are_a_fair_mix(quick: list[int], tmp_path: Path) -> None:
    config = replace(CONFIG, labelled=20, medium=0.5)
    record_locomotion(config, tmp_path / "run")
    table = infos(tmp_path / "run/labelled")
    assert [kind == "random" for kind in table["kind"]] == ([False] * 4 + [True]) * 4
    rounds = table.loc[table["kind"] == "snapshot", "round"].tolist()
    assert max(rounds) <= 5  # half of the way from 0 to 90
    for count in (4, 8, 16):
        assert abs(np.mean(rounds[:count]) - 2.25) <= 0.75
    assert [spread(index) for index in range(5)] == [0.0, 0.5, 0.25, 0.75, 0.125]


def test_what_was_interrupted_ends_with_the_same_bytes(
    quick: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record_locomotion(CONFIG, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(recording, "_experts", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            record_locomotion(CONFIG, tmp_path / "cut")
    assert not (tmp_path / "cut/expert").exists()
    assert (tmp_path / "cut/play").exists()
    record_locomotion(CONFIG, tmp_path / "cut")
    assert bytes_of(tmp_path / "cut") == bytes_of(tmp_path / "whole")
    assert len(quick) == 2  # the search was not done again
    record_locomotion(CONFIG, tmp_path / "cut")
    assert len(quick) == 2


def test_another_recording_is_not_written_over(quick: list[int], tmp_path: Path) -> None:
    record_locomotion(CONFIG, tmp_path / "run")
    with pytest.raises(ValueError, match="was not recorded from this configuration"):
        record_locomotion(replace(CONFIG, noise=0.1), tmp_path / "run")


def test_the_best_of_the_experts_episodes_are_kept(
    quick: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(CONFIG, play=0, labelled=0, heldout=0)
    record_locomotion(config, tmp_path / "run")
    kept = infos(tmp_path / "run/expert")
    monkeypatch.setattr(recording, "_SPARE", 1.0)
    record_locomotion(replace(config, expert=5), tmp_path / "all")
    everyone = infos(tmp_path / "all/expert")
    best = everyone[everyone["return"] > everyone["return"].min()]
    assert kept["seed"].tolist() == best["seed"].tolist()
    assert kept["return"].tolist() == best["return"].tolist()
    assert set(kept["kind"]) == {"expert"}


def test_seeds_are_nobody_elses() -> None:
    groups = [environment_seed(seed, group, index) for seed in (0, 1) for group in SETS for index in (0, 49_999)]
    assert len(set(groups)) == len(groups)
    assert min(groups) == 1_000_000


def test_snapshots_come_back_from_their_file(tmp_path: Path) -> None:
    draws = np.random.default_rng(0)
    found = [
        Snapshot(LinearPolicy(draws.normal(size=(3, 11)), draws.normal(size=11), np.ones(11)), number, 5.0 - number)
        for number in range(3)
    ]
    made = Snapshots(found, found[1], References(1.0, 4.0))
    write_snapshots(tmp_path / "s.npz", made, "text")
    read, text = read_snapshots(tmp_path / "s.npz")
    assert text == "text"
    assert read.references == made.references
    assert [one.round for one in read.all] == [0, 1, 2]
    np.testing.assert_array_equal(read.expert.policy.weights, found[1].policy.weights)
    assert read.nearest(0.0).round == 2  # of the returns 5, 4, 3 the one nearest 1
    assert read.nearest(1.0).round == 1
    (tmp_path / "s.npz").write_bytes(b"PK\x03")
    with pytest.raises(ValueError, match="record the robot first, or again"):
        read_snapshots(tmp_path / "s.npz")


def test_a_search_that_goes_nowhere_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "_ATTEMPTS", 2)
    hopeless = SearchConfig(3, 2, 1, 0.01, 0.01, decisions=10, measured=1, judged_at=1, least_return=1e9)
    with pytest.raises(ValueError, match="2 searches from 4 went nowhere on hopper"):
        train("hopper", hopeless, seed=4)


@pytest.mark.parametrize(
    ("field", "value"),
    [("play", -1), ("medium", 1.5), ("noise", -0.1), ("decisions", 501), ("seed", -1), ("robot", "ant")],
)
def test_words_for_a_wrong_field(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{field}: "):
        LocomotionRecordConfig(**{"robot": "hopper", field: value})  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_real_search_learns_to_run() -> None:
    found = train("halfcheetah", replace(snapshots.SEARCHES["halfcheetah"], rounds=50), seed=0)
    assert found.references.random < -100
    assert found.references.expert > 2000
    assert 0.3 < found.nearest(0.5).mean_return / found.expert.mean_return < 0.7
