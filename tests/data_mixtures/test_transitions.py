"""Windows of frames in memory: where they lie, what they show, and what comes with which update."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from data_mixtures.spaces.unified import ACTION_DIM, STATE_DIM
from data_mixtures.transitions import Grounding, Trajectories, Transitions, Windows


def trajectories(lengths: list[int], offset: float = 0.0) -> Trajectories:
    """States count the rows, actions are the negative of that; two state and one action dimension."""
    rows = torch.arange(sum(lengths), dtype=torch.float32) + offset
    states, actions = torch.zeros(len(rows), STATE_DIM), torch.zeros(len(rows), ACTION_DIM)
    states[:, 0], states[:, 1], actions[:, 0] = rows, rows + 0.5, -rows
    return Trajectories(
        states=states,
        state_mask=torch.arange(STATE_DIM) < 2,
        actions=actions,
        action_mask=torch.arange(ACTION_DIM) < 1,
        images=torch.zeros(len(rows), 0, 3, 0, 0, dtype=torch.uint8),
        first=torch.tensor([0, *np.cumsum(lengths)]),
        robot=None,
        control_hz=10.0,
    )


def test_there_is_a_window_around_every_frame_that_has_a_next_one() -> None:
    windows = Windows(trajectories([3, 1, 4]), context=1)
    assert windows.frame.tolist() == [0, 1, 4, 5, 6]


def test_windows_hold_the_end_frames_where_they_leave_the_episode() -> None:
    windows = Windows(trajectories([3, 4]), context=2, future=2)
    batch = windows.batch(torch.tensor([0, 4]), torch.tensor([7, 8]), labelled=True)
    assert batch.states is not None
    assert batch.steps_mask is not None
    assert batch.states[..., 0].tolist() == [[0, 0, 0, 1, 2], [3, 4, 5, 6, 6]]
    # t = 0 of the first episode has no frames before it; t = 5 has one frame after it, the last.
    assert batch.steps_mask.tolist() == [[False, False, True, True], [True, True, True, False]]
    assert batch.actions[..., 0].tolist() == [[0, 0, 0, -1], [-3, -4, -5, 0]]
    assert (batch.action_mask[..., 0] == batch.steps_mask).all()
    assert not batch.action_mask[..., 1:].any()


def test_unlabelled_windows_show_their_states_and_no_action() -> None:
    batch = Windows(trajectories([5]), context=1).batch(torch.arange(4), torch.arange(4), labelled=False)
    assert batch.states is not None
    assert batch.states[:, 1, 0].tolist() == [0, 1, 2, 3]
    assert not batch.actions.any()
    assert not batch.action_mask.any()


def test_a_sample_is_a_function_of_seed_and_id() -> None:
    windows = Windows(trajectories([50]), context=1)
    one, other = Transitions(windows, seed=3), Transitions(windows, seed=4)
    whole, part = one.batch(range(16)).states, one.batch(range(8, 16)).states
    assert whole is not None
    assert part is not None
    assert torch.equal(whole[8:], part)
    assert not torch.equal(whole, other.batch(range(16)).states)  # type: ignore[arg-type]


def grounded(every: int, batch_size: int = 6) -> Transitions:
    labelled = Windows(trajectories([40], offset=1000.0), context=1)
    windows = Windows(trajectories([50]), context=1)
    return Transitions(windows, seed=0, grounding=Grounding(labelled, every, batch_size), batch_size=4)


@pytest.mark.parametrize("every", [1, 2, 3])
def test_labelled_windows_come_with_every_kth_update(every: int) -> None:
    source = grounded(every)
    for update in range(6):
        batch = source.batch(range(4 * update, 4 * update + 4))
        labelled = batch.action_mask.flatten(1).any(1)
        assert len(batch) == (10 if (update + 1) % every == 0 else 4)
        assert labelled.tolist() == [False] * 4 + [True] * (len(batch) - 4)
        assert (batch.state[labelled, 0] >= 1000).all()
        assert (batch.state[~labelled, 0] < 1000).all()


def test_micro_batches_share_an_updates_labelled_windows() -> None:
    source = grounded(every=2)
    whole = source.batch(range(4, 8))
    halves = [source.batch(range(4, 6)), source.batch(range(6, 8))]
    assert [len(half) for half in halves] == [5, 5]
    shared = torch.cat([half.sample_ids[2:] for half in halves])
    assert torch.equal(shared, whole.sample_ids[4:])
    assert torch.equal(torch.cat([half.state[2:] for half in halves]), whole.state[4:])


def test_a_grounding_batch_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="grounding batch of 5 does not divide"):
        grounded(every=1, batch_size=5).batch(range(2))


def test_latents_go_with_their_windows() -> None:
    windows = Windows(trajectories([50]), context=0)
    latents = windows.frame[:, None, None].float()
    batch = Transitions(windows, seed=0, latents=latents).batch(range(32))
    assert batch.latents is not None
    assert torch.equal(batch.latents[:, 0, 0], batch.state[:, 0])


def test_episodes_of_one_frame_alone_are_refused() -> None:
    with pytest.raises(ValueError, match="a transition needs two"):
        Windows(trajectories([1, 1]), context=1)


def test_grounding_windows_of_another_length_are_refused() -> None:
    windows, others = Windows(trajectories([50]), 1, future=2), Windows(trajectories([40]), 1)
    with pytest.raises(ValueError, match="grounding windows have 3 frames, the others 4"):
        Transitions(windows, seed=0, grounding=Grounding(others, 1, 4), batch_size=4)


def test_transitions_without_an_action_are_no_labels() -> None:
    labels = torch.ones(50, dtype=torch.bool)
    labels[10:30] = False
    windows = Windows(replace(trajectories([50]), labels=labels), context=1)
    source = Transitions(windows, seed=0, labelled=True)
    batch = source.batch(range(200))
    assert batch.states is not None
    current = batch.states[:, 1, 0]
    assert not ((current >= 10) & (current < 30)).any()
    assert set(current.tolist()) >= {9, 30}
    first = batch.action_mask[current == 30][0, :, 0]
    assert first.tolist() == [False, True]  # the step before it has none
    assert sum(len(part) for part in source.in_order(7)) == 29
    with pytest.raises(ValueError, match="not one transition"):
        Transitions(Windows(replace(trajectories([50]), labels=labels & False), 1), seed=0, labelled=True)
