"""Samples as functions of their ids, windows at the ends of episodes, selections, masks, and bad configurations."""

import dataclasses
from pathlib import Path
from typing import Any

import draccus
import numpy as np
import pytest
import torch
import yaml
from recorded import SUBTASKS, TASKS, numerics, write_dataset

from data_mixtures.batch import Batch
from data_mixtures.config import DatasetConfig, MixtureConfig, WindowConfig
from data_mixtures.mixture import Mixture
from data_mixtures.readers.lerobot import LeRobotReader
from data_mixtures.sampling.loader import Loader
from data_mixtures.spaces.embodiments import METAWORLD_SAWYER

MIXTURES = Path(__file__).parents[2] / "data_mixtures/mixtures"


def config_of(*datasets: DatasetConfig, cameras: tuple[str, ...] = ("corner",), frames: int = 1) -> MixtureConfig:
    return MixtureConfig(list(datasets), list(cameras), WindowConfig(frames=frames, horizon=16), image_size=32)


def assert_same(first: Batch, second: Batch) -> None:
    for field in dataclasses.fields(Batch):
        one, other = getattr(first, field.name), getattr(second, field.name)
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other, field.name


def joined(batches: list[Batch]) -> Batch:
    values = {}
    for field in dataclasses.fields(Batch):
        parts = [getattr(batch, field.name) for batch in batches]
        if isinstance(parts[0], torch.Tensor):
            values[field.name] = torch.cat(parts)
        elif parts[0] is not None:
            values[field.name] = [text for part in parts for text in part]
    return Batch(**values)


@pytest.fixture
def two_sources(door_root: Path, other_root: Path) -> Mixture:
    datasets = DatasetConfig(str(door_root)), DatasetConfig(str(other_root), weight=3, labelled_share=0.5)
    return Mixture(config_of(*datasets, cameras=("corner", "wrist"), frames=3), seed=5)


def test_a_batch_holds_the_windows_its_ids_name(door_root: Path) -> None:
    mixture = Mixture(config_of(DatasetConfig(str(door_root)), frames=3), seed=1)
    batch = mixture.batch(range(40))
    reader = LeRobotReader(door_root)
    for row, sample in enumerate(range(40)):
        _, index, start = mixture.sample_window(sample)
        episode = reader.episode(index)
        last = len(episode) - 1
        assert batch.instruction[row] == episode.instruction
        assert batch.subtask[row] == episode.subtask_at(start)
        state, actions = torch.from_numpy(episode.numerics.state), torch.from_numpy(episode.numerics.actions)
        torch.testing.assert_close(batch.state[row], state[start], rtol=0, atol=0)
        steps = [min(start + step, last) for step in range(16)]
        torch.testing.assert_close(batch.actions[row], actions[steps], rtol=0, atol=0)
        pictures = episode.frames("corner")[[min(start + offset, last) for offset in (0, 8, 16)]]
        assert torch.equal(batch.images[row, :, 0], torch.from_numpy(pictures).permute(0, 3, 1, 2))


def test_actions_past_the_end_are_masked_and_repeat_the_last(door_root: Path) -> None:
    mixture = Mixture(config_of(DatasetConfig(str(door_root)), frames=2), seed=0)
    batch = mixture.batch_at([19, 4])  # the last frame of episode 0 (20 frames), and its fifth
    assert batch.action_mask[0, :, 0].tolist() == [True] + [False] * 15
    assert torch.equal(batch.actions[0], batch.actions[0, :1].expand(16, -1))
    assert batch.action_mask[1, :, 0].tolist() == [True] * 16
    assert torch.equal(batch.images[0, 0], batch.images[0, 1])
    assert batch.action_mask[1, 0].nonzero().flatten().tolist() == [0, 1, 2, 6]


def test_units_are_metres_and_gripper_openings(door_root: Path) -> None:
    mixture = Mixture(config_of(DatasetConfig(str(door_root))), seed=0)
    batch, raw = mixture.batch_at(range(4)), torch.from_numpy(numerics(20, 0)["action"])
    for step in range(4):
        torch.testing.assert_close(batch.actions[0, step, :3], raw[step, :3] * 0.03)
        torch.testing.assert_close(batch.actions[0, step, 6], (1 - raw[step, 3]) / 2)


def test_commands_come_back_from_the_unified_space() -> None:
    raw = np.random.default_rng(0).uniform(-1, 1, (5, 3, 4)).astype(np.float32)
    unified = METAWORLD_SAWYER.to_unified_action(raw)
    np.testing.assert_allclose(METAWORLD_SAWYER.action_from_unified(unified), raw, atol=1e-6)
    assert np.abs(METAWORLD_SAWYER.action_from_unified(unified * 100)).max() == 1


def test_samples_are_pure_functions_of_seed_and_id(two_sources: Mixture) -> None:
    again = Mixture(two_sources.config, seed=5)
    assert_same(two_sources.batch([7, 1000, 3, 12]), again.batch([7, 1000, 3, 12]))
    reordered = again.batch([12, 3, 1000, 7])
    assert torch.equal(reordered.images.flip(0), two_sources.batch([7, 1000, 3, 12]).images)
    drawn = [[m.sample_window(i) for i in range(50)] for m in (two_sources, Mixture(two_sources.config, seed=6))]
    assert drawn[0] != drawn[1]


def test_data_sets_are_drawn_by_weight_and_frames_evenly(two_sources: Mixture) -> None:
    drawn = [two_sources.sample_window(i) for i in range(4000)]
    assert abs(np.mean([dataset for dataset, _, _ in drawn]) - 0.75) < 0.03
    counts = np.bincount([episode * 22 + frame for dataset, episode, frame in drawn if dataset == 1], minlength=88)
    assert counts.min() > 10
    assert counts.max() < 70


def test_a_missing_camera_is_black_and_masked(two_sources: Mixture) -> None:
    batch = two_sources.batch(range(32))
    second = torch.tensor([two_sources.sample_window(i)[0] == 1 for i in range(32)])
    assert torch.equal(batch.camera_mask[:, 1], ~second)
    assert batch.camera_mask[:, 0].all()
    assert (batch.images[second][:, :, 1] == 0).all()
    assert (batch.images[:, :, 0].flatten(1).float().std(1) > 0).all()


def test_unlabelled_episodes_keep_only_pictures_and_words(other_root: Path) -> None:
    mixture = Mixture(config_of(DatasetConfig(str(other_root), labelled_share=0.5)), seed=0)
    labelled = set(mixture.sources[0].labelled.tolist())
    assert len(labelled & {0, 2}) == len(labelled & {1, 3}) == 1, "half of every task"
    batch = mixture.batch_at(range(88))
    seen = torch.tensor([index // 22 in labelled for index in range(88)])
    assert torch.equal(batch.state_mask.any(1), seen)
    assert torch.equal(batch.action_mask.flatten(1).any(1), seen)
    assert not batch.actions[~seen].any()
    assert not batch.state[~seen].any()
    assert batch.subtask[0] == SUBTASKS[0][1]
    assert set(batch.instruction) == set(TASKS)
    assert Mixture(mixture.config, seed=99).sources[0].labelled.tolist() == sorted(labelled), "no matter the seed"


def test_only_labelled_leaves_the_others_out(other_root: Path) -> None:
    mixture = Mixture(config_of(DatasetConfig(str(other_root), labelled_share=0.5, only_labelled=True)), seed=0)
    assert mixture.sources[0].episode_ids.tolist() == mixture.sources[0].labelled.tolist()
    assert mixture.batch_at(range(mixture.num_frames)).action_mask.flatten(1).any(1).all()
    nothing = config_of(DatasetConfig(str(other_root), labelled_share=0.0, only_labelled=True))
    with pytest.raises(ValueError, match="no episode is left"):
        Mixture(nothing, seed=0)


def test_episodes_per_task_takes_the_first_and_skip_the_rest(door_root: Path) -> None:
    first = Mixture(config_of(DatasetConfig(str(door_root), episodes_per_task=1)), seed=0)
    rest = Mixture(config_of(DatasetConfig(str(door_root), skip_per_task=1)), seed=0)
    assert first.sources[0].episode_ids.tolist() == [0, 1]
    assert rest.sources[0].episode_ids.tolist() == [2, 3, 4, 5, 6, 7]
    assert first.num_frames == 20 + 21
    assert {first.sample_window(i)[1] for i in range(100)} == {0, 1}
    assert torch.equal(rest.batch_at([0]).state[0, :3], torch.from_numpy(numerics(22, 200)["observation.state"][0, :3]))


def test_failures_can_be_left_out(door_root: Path) -> None:
    mixture = Mixture(config_of(DatasetConfig(str(door_root), only_successes=True, episodes_per_task=3)), seed=0)
    assert mixture.sources[0].episode_ids.tolist() == [0, 2, 4]  # every other episode succeeded


def test_windows_are_enumerated_in_order(two_sources: Mixture) -> None:
    batches = list(two_sources.windows(batch_size=100))
    assert [len(batch) for batch in batches] == [100, 100, 76]
    assert torch.cat([batch.sample_ids for batch in batches]).tolist() == list(range(two_sources.num_frames))
    assert_same(joined(batches), two_sources.batch_at(range(two_sources.num_frames)))
    with pytest.raises(ValueError, match=r"frame_indices span 0\.\.276: the mixture has 0\.\.275"):
        two_sources.batch_at(range(277))


def test_tasks(two_sources: Mixture) -> None:
    assert two_sources.tasks == sorted(TASKS)


@pytest.mark.parametrize(("accumulate", "world"), [(1, 1), (1, 4), (4, 1), (2, 2)])
def test_steps_hold_the_same_samples_however_they_are_cut(two_sources: Mixture, accumulate: int, world: int) -> None:
    pieces: dict[tuple[int, int, int], Batch] = {}
    for rank in range(world):
        cut = {"global_batch": 8, "accumulate": accumulate, "rank": rank, "world": world}
        with Loader(two_sources, **cut, first_step=3) as loader:
            for step in (3, 4):
                for micro in range(accumulate):
                    pieces[step, micro, rank] = next(loader)
    for step in (3, 4):
        whole = joined([pieces[step, micro, rank] for micro in range(accumulate) for rank in range(world)])
        assert whole.sample_ids.tolist() == list(range(8 * step, 8 * step + 8))
        assert_same(whole, two_sources.batch(range(8 * step, 8 * step + 8)))


def test_the_loader_resumes_where_it_stopped(two_sources: Mixture) -> None:
    cut = {"global_batch": 4, "accumulate": 2, "rank": 0, "world": 1}
    with Loader(two_sources, **cut, first_step=0) as going, Loader(two_sources, **cut, first_step=2) as resumed:
        ran = [next(going) for _ in range(8)]
        for batch in ran[4:]:
            assert_same(batch, next(resumed))
        assert going.wait_seconds > 0


def test_prefetching_changes_nothing_and_passes_errors_on(
    two_sources: Mixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = {"global_batch": 4, "accumulate": 1, "rank": 0, "world": 1, "first_step": 0}
    with Loader(two_sources, **cut) as ahead, Loader(two_sources, **cut, prefetch=0) as direct:
        for _ in range(4):
            assert_same(next(ahead), next(direct))

    def broken(ids: range) -> Batch:
        raise OSError("disk gone")

    monkeypatch.setattr(two_sources, "batch", broken)
    with Loader(two_sources, **cut) as loader, pytest.raises(OSError, match="disk gone"):
        next(loader)


def test_a_batch_that_does_not_divide_is_refused(two_sources: Mixture) -> None:
    with pytest.raises(ValueError, match=r"global_batch is 10, .* make it a multiple of 4"):
        Loader(two_sources, global_batch=10, accumulate=2, rank=0, world=2, first_step=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"datasets": []}, "datasets is empty"),
        ({"cameras": []}, r"cameras is \[\]: name at least one"),
        ({"cameras": ["top"]}, r"cameras names 'top', which no data set has: choose from \['corner', 'wrist'\]"),
        ({"image_size": 0}, "image_size is 0: it must be at least 1"),
        ({"window": WindowConfig(1, 28)}, r"window.horizon is 28, but the longest episode of .* has 27 frames: lower"),
        ({"window": WindowConfig(2, 8, 0.5)}, r"horizon 8 x window.stride_s 0.5 spans 4 s, but .* lasts 2.7 s: lower"),
        ({"window": WindowConfig(2, 8, 0.0)}, r"window.stride_s is 0.0: give seconds above 0"),
        ({"window": WindowConfig(1, 0)}, "window.horizon is 0: it must be at least 1"),
        ({"window": WindowConfig(18, 16)}, r"window.frames is 18, but window.horizon 16 spans only 17 frames"),
        ({"latents": "latent"}, r"latents: .* no column 'latent.scene': run `vla label` first"),
        ({"vision_features": "nowhere"}, r"vision_features: nowhere/\w+ does not exist: compute"),
        ({"window": WindowConfig(2, 8, float("inf"))}, "window.stride_s is inf: give seconds above 0"),
        ({"weight": 0}, r"datasets\[0\].weight is 0: give a finite weight above 0"),
        ({"weight": float("inf")}, r"datasets\[0\].weight is inf: give a finite weight above 0"),
        ({"labelled_share": 1.5}, r"datasets\[0\].labelled_share is 1.5: it is a share, from 0 to 1"),
        ({"episodes_per_task": 0}, r"datasets\[0\].episodes_per_task is 0: it must be at least 1"),
        ({"skip_per_task": 4}, "skip_per_task 4 leaves no episode: lower it"),
        (
            {"path": "no/such/set", "source": "the moon"},
            r"set: looked for no/such/set; get it from the m",
        ),
    ],
)
def test_bad_mixtures_stop_before_any_work(door_root: Path, change: dict, message: str) -> None:
    mixture_fields = MixtureConfig.__dataclass_fields__
    of_mixture = {name: value for name, value in change.items() if name in mixture_fields}
    of_dataset = {name: value for name, value in change.items() if name not in mixture_fields}
    values: dict[str, Any] = {"path": str(door_root)} | of_dataset
    dataset = DatasetConfig(**values)
    with pytest.raises(ValueError, match=message):
        Mixture(dataclasses.replace(config_of(dataset), **of_mixture), seed=0)


def test_an_unknown_robot_needs_a_mapping_only_for_its_labels(tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "hand", [20, 20])
    info = root / "meta/info.json"
    info.write_text(info.read_text().replace("metaworld_sawyer", "human_hand"))
    with pytest.raises(ValueError, match=r"robot_type 'human_hand' has no unified mapping; known: \['metaworld"):
        Mixture(config_of(DatasetConfig(str(root))), seed=0)
    batch = Mixture(config_of(DatasetConfig(str(root), labelled_share=0)), seed=0).batch(range(4))
    assert not batch.action_mask.any()
    assert not batch.state_mask.any()
    assert batch.images.any()


@pytest.mark.parametrize("path", sorted(MIXTURES.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_mixtures_parse_and_name_what_is_missing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = draccus.decode(MixtureConfig, yaml.safe_load(path.read_text()))
    monkeypatch.chdir(path.parent)  # where no data is
    with pytest.raises(ValueError, match=f"{len(config.datasets)} of {len(config.datasets)} data sets are missing"):
        Mixture(config, seed=0)
    with pytest.raises(ValueError, match="get it from"):
        Mixture(config, seed=0)


def test_table_6_adds_up_as_printed_and_as_corrected() -> None:
    for name, total in (("latbot_pretrain", 107.95), ("latbot_pretrain_corrected", 99.58)):
        config = draccus.decode(MixtureConfig, yaml.safe_load((MIXTURES / f"{name}.yaml").read_text()))
        assert len(config.datasets) == 29
        assert sum(dataset.weight for dataset in config.datasets) == pytest.approx(total)
