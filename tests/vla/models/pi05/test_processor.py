"""From a Batch to tensors and back."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.vla.models.pi05.students import ACTION_DIMS, normalisation, tiny_batch, tiny_config
from vla.models.pi05.images import Augmentation, augment_images, resize_with_pad, shift_images
from vla.models.pi05.processor import Processor, make_processor
from vla.models.pi05.tokenizer import BOS, EOS


@pytest.fixture(scope="module")
def processor() -> Processor:
    return make_processor(tiny_config(), normalisation(), ["front", "wrist"], ["open the drawer", "push the puck"])


def prompt_of(processor: Processor, tokens: torch.Tensor) -> str:
    return processor.tokenizer.decode(tokens.tolist())


def test_images_are_scaled_and_absent_cameras_dropped(processor: Processor):
    batch = tiny_batch(cameras=3)
    batch = replace(batch, camera_mask=torch.tensor([[True, False, True], [True, False, False], [True, False, True]]))
    prefix = processor.prefix(batch, "action")
    expected = batch.images[:, 0, [0, 2]].float() / 127.5 - 1
    expected[1, 1] = -1
    torch.testing.assert_close(prefix.images, expected)
    assert prefix.image_mask.tolist() == [[True, True], [True, False], [True, True]]


def test_only_valid_state_dimensions_are_written(processor: Processor):
    batch = tiny_batch()
    state = torch.zeros_like(batch.state)
    state[0, [0, 1, 2, 7]] = torch.tensor([-0.5, 0.0, 0.5, 1.0])
    state[0, 20] = 3.0  # masked: must not appear
    prefix = processor.prefix(replace(batch, state=state), "action")
    assert prefix.tokens[0, 0] == BOS
    assert prompt_of(processor, prefix.tokens[0]) == "Task: open the drawer, State: 0 128 255 255;\nAction: "
    video = replace(batch, state_mask=torch.zeros_like(batch.state_mask))
    unseen = processor.prefix(video, "action")
    assert prompt_of(processor, unseen.tokens[0]) == "Task: open the drawer;\nAction: "


def test_subtask_prompt_has_no_state(processor: Processor):
    batch = tiny_batch()
    prefix = processor.prefix(batch, "subtask")
    assert prompt_of(processor, prefix.tokens[1]) == "Task: push the puck to the goal;\nSubtask: "
    other = processor.prefix(replace(batch, state=batch.state + 0.3), "subtask")
    assert torch.equal(other.tokens, prefix.tokens)


def test_state_in_prompt_can_be_left_out():
    processor = make_processor(tiny_config(state_in_prompt=False), normalisation(), ["front"], ["open the drawer"])
    prefix = processor.prefix(tiny_batch(), "action")
    assert prompt_of(processor, prefix.tokens[0]) == "Task: open the drawer;\nAction: "


def test_subtask_labels_end_with_eos_and_skip_samples_without(processor: Processor):
    text, labels, mask = processor.subtasks(tiny_batch())
    ids = processor.tokenizer.encode("reach the handle")
    assert text.tokens[0, : len(ids)].tolist() == ids
    assert labels[0, mask[0]].tolist() == [*ids, EOS]
    assert text.mask.sum(1).tolist() == [len(ids), len(processor.tokenizer.encode("push the puck")), 0]
    assert mask[2].sum() == 0


def test_actions_round_trip(processor: Processor):
    batch = tiny_batch()
    actions, mask = processor.actions(batch)
    assert torch.equal(mask, batch.action_mask)
    assert actions[~mask].abs().max() == 0
    torch.testing.assert_close(processor.physical(actions)[mask], batch.actions[mask])
    absent = [d for d in range(44) if d not in ACTION_DIMS]
    assert processor.physical(torch.ones(1, 4, 44))[..., absent].abs().max() == 0
    assert processor.physical(torch.full((1, 4, 44), 3.0))[..., 6].max() == 1


def test_saved_processor_is_the_same(processor: Processor, tmp_path: Path):
    processor.save(tmp_path)
    loaded = Processor.load(tmp_path)
    assert loaded.model == processor.model
    assert loaded.cameras == ("front", "wrist")
    batch = tiny_batch()
    assert torch.equal(loaded.prefix(batch, "action").tokens, processor.prefix(batch, "action").tokens)
    assert torch.equal(loaded.actions(batch)[0], processor.actions(batch)[0])


def test_resize_keeps_aspect_and_pads_with_black():
    wide = torch.ones(1, 3, 8, 16)
    padded = resize_with_pad(wide, 8)
    assert padded.shape == (1, 3, 8, 8)
    assert padded[0, 0, :, 0].tolist() == [-1, -1, 1, 1, 1, 1, -1, -1]


def test_shift_moves_down_and_right():
    image = torch.arange(16.0).reshape(1, 1, 4, 4).expand(1, 3, 4, 4)
    moved = shift_images(image, torch.tensor([[1, -1]]), limit=2)
    assert moved[0, 0, 1:, :3].tolist() == image[0, 0, :3, 1:].tolist()
    assert moved[0, 0, 0, 0] == image[0, 0, 0, 1]


def test_augmentation_is_a_function_of_the_sample():
    images, ids = torch.rand(4, 2, 3, 8, 8) * 2 - 1, torch.tensor([5, 6, 7, 8])
    config, cameras = Augmentation(shift=1, brightness=0.1, crop=0.9), ("primary", "wrist")
    whole = augment_images(images, ids, cameras, config, seed=0)
    parts = [augment_images(images[i : i + 1], ids[i : i + 1], cameras, config, seed=0) for i in range(4)]
    assert torch.equal(whole, torch.cat(parts))
    assert not torch.equal(whole, augment_images(images, ids + 1, cameras, config, seed=0))
    assert augment_images(images, ids, cameras, Augmentation(), seed=0) is images
    assert whole.abs().max() <= 1


def test_wrong_horizon_and_vocabulary_are_named(processor: Processor):
    with pytest.raises(ValueError, match=r"model\.horizon is 4, but the data's window has 6"):
        processor.actions(tiny_batch(horizon=6))
    with pytest.raises(ValueError, match=r"model\.vocab_size 300 is smaller"):
        replace(processor, model=tiny_config(vocab_size=300))


def test_a_centre_crop_travels_and_is_what_the_policy_sees_when_it_acts(tmp_path: Path) -> None:
    size = tiny_config().vision.image_size
    ramp = torch.linspace(-1, 1, size).expand(1, 1, 2, 3, size, size).clone()
    mask = torch.ones(3, 2, dtype=torch.bool)
    batch = replace(tiny_batch(), images=ramp.expand(3, -1, -1, -1, -1, -1), camera_mask=mask)
    plain = make_processor(tiny_config(), normalisation(), ["front", "wrist"], ["open the drawer", "push the puck"])
    crop = Augmentation(crop=0.8, acting="centre").centre_crop(plain.cameras)
    assert crop == {"front": 0.8}, "a wrist camera's pictures are not cropped in training either"
    replace(plain, centre_crop=crop).save(tmp_path)
    cropped = Processor.load(tmp_path)
    assert cropped.centre_crop == {"front": 0.8}
    whole, seen = (processor.prefix(batch, "action").images for processor in (plain, cropped))
    assert torch.equal(seen[:, 1], whole[:, 1])
    # Four fifths of a ramp is a ramp four fifths as steep, about the same middle.
    torch.testing.assert_close(seen[0, 0, 0, 0], 0.8 * whole[0, 0, 0, 0], atol=1e-5, rtol=0)
    training = Augmentation(crop=0.8, acting="centre")
    assert not torch.equal(cropped.prefix(batch, "action", training).images[:, 0], seen[:, 0]), (
        "training draws its crops"
    )


def test_acting_on_the_middle_of_what_was_not_cropped_is_refused() -> None:
    with pytest.raises(ValueError, match="acting is 'centre', but training does not crop"):
        Augmentation(acting="centre")
