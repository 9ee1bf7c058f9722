"""Play of mixed expertise: what is stored explains what happened, and the four data sets keep their promises."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_mixtures.lerobot.table import LeRobotDataset
from data_mixtures.readers.lerobot import LeRobotReader
from eval.metaworld import mixed, parts
from eval.metaworld.behaviours import KINDS
from eval.metaworld.episode import CompiledTask
from eval.metaworld.mixed import MixedConfig, record_mixed

CONFIG = MixedConfig("coffee-button-v3", play=8, expert=2, labelled=4, heldout=2, decisions=40, seed=5, workers=1)
NAMES = ("play", "expert", "labelled", "heldout")


def infos(folder: Path, name: str) -> list[dict[str, Any]]:
    return LeRobotDataset(folder / name).episodes.info


def files(folder: Path) -> dict[str, bytes]:
    """Every file's bytes, but for what reading left there."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and ".cache" not in path.parts]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def recorded(simulator: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record_mixed(CONFIG, tmp_path_factory.mktemp("mixed"))


def test_a_reader_needs_to_be_told_nothing(recorded: Path) -> None:
    for name in NAMES:
        reader = LeRobotReader(recorded / name)
        assert (reader.robot_type, reader.fps, list(reader.cameras)) == ("metaworld_full", 40, [])
        assert len(reader) == getattr(CONFIG, name)
        episode = reader.episode(0)
        assert len(episode) == CONFIG.decisions
        assert episode.instruction == "press the button of the coffee machine"
        numerics = episode.numerics
        assert numerics.state_mask.sum(-1).tolist() == [39] * 40
        assert numerics.action_mask.sum(-1).tolist() == [4] * 40
        raw = reader.raw_columns(0, ["observation.state", "action"])
        np.testing.assert_array_equal(numerics.state[:, :39], raw["observation.state"])
        np.testing.assert_array_equal(numerics.actions[:, :4], raw["action"])
        np.testing.assert_array_equal(raw["observation.state"][0, :18], raw["observation.state"][0, 18:36])
    assert sorted(path.name for path in recorded.iterdir()) == sorted(NAMES)


def test_play_is_every_kind_in_turn_and_experts_are_those_of_it_that_succeeded(recorded: Path) -> None:
    play, experts = infos(recorded, "play"), infos(recorded, "expert")
    assert [info["kind"] for info in play] == list(KINDS) * 2
    assert len({info["seed"] for info in play}) == 8
    assert [info for info in play if info["kind"] == "expert" and info["success"]] == experts
    own = LeRobotReader(recorded / "expert").raw_columns(1, ["observation.state", "action"])
    whole = LeRobotReader(recorded / "play").raw_columns(4, ["observation.state", "action"])
    for name, column in own.items():
        np.testing.assert_array_equal(column, whole[name])


def test_labelled_episodes_failed_and_share_no_initial_state(recorded: Path) -> None:
    labelled, heldout = infos(recorded, "labelled"), infos(recorded, "heldout")
    assert [info["kind"] for info in labelled] == ["random", "medium"] * 2
    assert [info["kind"] for info in heldout] == ["random", "medium"]
    assert not any(info["success"] for info in [*labelled, *heldout])
    seeds = Counter(info["seed"] for name in ("play", "labelled", "heldout") for info in infos(recorded, name))
    assert set(seeds.values()) == {1}
    assert min(seeds) >= parts.RECORDED_SEEDS_FROM


@pytest.mark.usefixtures("simulator")
def test_stored_actions_are_what_was_carried_out(recorded: Path) -> None:
    """Replayed they lead through the same states to the same return; an expert's are not its commands."""
    dataset = LeRobotDataset(recorded / "play")
    with CompiledTask(CONFIG.task, CONFIG.action_repeat, "full") as compiled:
        for row in range(4):
            span, info = slice(*dataset.episodes.span(row)), dataset.episodes.info[row]
            states, actions = dataset.column("observation.state")[span], dataset.column("action")[span]
            assert np.abs(actions).max() <= 1
            episode, apart = compiled.episode(info["seed"]), []
            for state, action in zip(states, actions, strict=True):
                np.testing.assert_array_equal(episode.state, state)
                apart.append(action - episode.expert_command())
                episode.step(action)
            assert (episode.success_any, episode.rewards) == (info["success"], info["return"])
            if info["kind"] == "expert":
                assert 0.01 < np.abs(apart).mean() < 0.06  # half of it is clipped away where a command is at its end
                assert np.abs(actions).max() == 1


def test_recorded_again_it_is_the_same_and_interrupted_it_goes_on(
    recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Smaller parts, so that there is something between them, which change no byte.
    monkeypatch.setattr(mixed, "_EPISODES_A_PART", 3)
    whole, done = parts._record_part, []

    def interrupted(part: parts.Part) -> float:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(part.path.name)
        return whole(part)

    monkeypatch.setattr(parts, "_record_part", interrupted)
    with pytest.raises(KeyboardInterrupt):
        record_mixed(CONFIG, tmp_path)
    assert not any((tmp_path / name).exists() for name in NAMES)
    redone: list[str] = []
    monkeypatch.setattr(parts, "_record_part", lambda part: (redone.append(part.path.name), whole(part))[1])
    record_mixed(CONFIG, tmp_path)
    assert done == ["play-00000.npz", "play-00003.npz"]
    assert not set(done) & set(redone)
    assert files(tmp_path) == files(recorded)


def test_another_configuration_is_refused_where_one_was_recorded(recorded: Path) -> None:
    before = files(recorded)
    record_mixed(replace(CONFIG, workers=2), recorded)
    with pytest.raises(ValueError, match="root"):
        record_mixed(replace(CONFIG, seed=6), recorded)
    assert files(recorded) == before


@pytest.mark.usefixtures("simulator")
def test_with_pictures_and_other_kinds(tmp_path: Path) -> None:
    config = replace(
        CONFIG, play=0, expert=0, heldout=0, labelled=2, labelled_kinds=("expert",), cameras=("corner",), image_size=32
    )
    record_mixed(config, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["labelled"]
    assert [(info["kind"], info["success"]) for info in infos(tmp_path, "labelled")] == [("expert", True)] * 2
    pictures = LeRobotReader(tmp_path / "labelled").episode(0).frames("corner")
    assert pictures.shape == (40, 32, 32, 3)
    assert pictures[0].std() > 15
    assert np.abs(pictures[0].astype(int) - pictures[-1]).max() > 30


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"task": "coffee-v3"}, "coffee-button-v3"),
        ({"expert": 3}, "expert"),
        ({"play": -1}, "play"),
        ({"play": 0, "expert": 0, "labelled": 0, "heldout": 0}, "play"),
        ({"labelled_kinds": ()}, "labelled_kinds"),
        ({"decisions": 251}, "decisions"),
        ({"cameras": ("side",)}, "cameras"),
        ({"image_size": 63}, "image_size"),
        ({"seed": -1}, "seed"),
    ],
)
def test_impossible_configurations_name_the_field(change: dict[str, Any], field: str) -> None:
    with pytest.raises(ValueError, match=field):
        replace(CONFIG, **change)
