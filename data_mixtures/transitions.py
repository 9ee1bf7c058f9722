"""Windows of consecutive frames from small data sets held in memory: what latent action models learn from.

    data sets ─► Trajectories (states, actions, pictures of every frame, as tensors) ─► Transitions ─► Batch

A window is around a frame t: the `context` frames before it, t itself, and the `future` frames after it. Where it
reaches out of its episode the episode's end frame is held, and `steps_mask` is False for the step. Unlike a mixture's,
a window shows its states whether they are labelled or not; actions are shown of grounding windows alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from data_mixtures.batch import Batch
from data_mixtures.config import DatasetConfig
from data_mixtures.sampling.sampler import Sampler
from data_mixtures.sampling.selection import taken_episodes
from data_mixtures.spaces.embodiments import Embodiment
from data_mixtures.spaces.unified import ACTION_DIM, STATE_DIM
from data_mixtures.storage.dataset import Dataset, open_dataset

# Ids of grounding windows: a run's own ids never get so far.
_GROUNDING_IDS = 1 << 40
_FRAMES_AT_ONCE = 4096


@dataclass(frozen=True)
class Trajectories:
    """All frames of the episodes taken from some data sets, R in all; episode e owns first[e] .. first[e + 1] - 1.

    Attributes:
        states: float32 [R, 46] in the data sets' units; `state_mask` bool [46] says which dimensions there are.
        actions: float32 [R, 44], what was carried out from the frame on; `action_mask` bool [44].
        labels: bool [R], where every action dimension has a value; None where it always does.
        images: uint8 [R, cameras, 3, size, size].
        first: int64 [E + 1].
        robot: whose numbers these are.
        control_hz: actions a second.
    """

    states: Tensor
    state_mask: Tensor
    actions: Tensor
    action_mask: Tensor
    images: Tensor
    first: Tensor
    robot: Embodiment | None
    control_hz: float
    labels: Tensor | None = None

    @classmethod
    def load(cls, datasets: Sequence[DatasetConfig], cameras: Sequence[str], image_size: int) -> "Trajectories":
        """Read the episodes the configs take, pictures as well.

        Raises:
            ValueError: a data set is missing or unusable, states are not there all the time, or they are not of one
                robot.
        """
        if not datasets:
            raise ValueError("no data set is named: name at least one")
        parts = [_Part.read(config, list(cameras), image_size) for config in datasets]
        for config, part in zip(datasets, parts, strict=True):
            if part.columns != parts[0].columns:
                raise ValueError(
                    f"{config.path} is of another robot than {datasets[0].path}, or has other state or action columns: "
                    "latent actions are learned from one robot's frames; name data sets of one"
                )
        lengths = np.concatenate([part.lengths for part in parts])
        return cls(
            states=torch.from_numpy(np.concatenate([part.states for part in parts])),
            state_mask=torch.from_numpy(parts[0].state_mask),
            actions=torch.from_numpy(np.concatenate([part.actions for part in parts])),
            action_mask=torch.from_numpy(parts[0].action_mask),
            images=torch.from_numpy(_pictures(datasets, parts, list(cameras), image_size)),
            first=torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)])),
            robot=parts[0].robot,
            control_hz=parts[0].control_hz,
            labels=torch.from_numpy(np.concatenate([part.labels for part in parts])),
        )

    def __len__(self) -> int:
        return len(self.states)

    @property
    def num_episodes(self) -> int:
        """Episodes taken."""
        return len(self.first) - 1


@dataclass(frozen=True)
class _Part:
    """One data set's share of `Trajectories`."""

    states: np.ndarray
    state_mask: np.ndarray
    actions: np.ndarray
    action_mask: np.ndarray
    labels: np.ndarray
    dataset: Dataset
    rows: np.ndarray
    lengths: np.ndarray
    robot: Embodiment | None
    control_hz: float

    @classmethod
    def read(cls, config: DatasetConfig, cameras: list[str], size: int) -> "_Part":
        dataset = open_dataset(config, cameras, size, decoded_gib=8.0)
        index = dataset.index
        episodes = taken_episodes(index, config)
        wanted, had = config.episodes_per_task, np.unique(index.task[episodes], return_counts=True)[1]
        if wanted is not None and had.min() < wanted:
            raise ValueError(f"{config.path}: episodes_per_task is {wanted}, but a task has {had.min()}: lower it")
        lengths = np.diff(index.first_row)[episodes]
        starts = np.repeat(index.first_row[episodes] - np.concatenate([[0], np.cumsum(lengths)[:-1]]), lengths)
        rows = starts + np.arange(lengths.sum())
        states, state_mask = index.states(rows)
        actions, action_mask = index.actions(rows)
        if lost := int((state_mask.any(0) & ~state_mask).any(1).sum()):
            raise ValueError(
                f"{config.path}: {lost} of {len(rows)} frames lack a part of the state that others have (a hand out of "
                "sight): latent actions need whole states; leave those episodes out"
            )
        columns = np.asarray(action_mask.any(0))
        return cls(
            states=states,
            state_mask=np.asarray(state_mask.any(0)),
            actions=actions,
            action_mask=columns,
            labels=np.asarray(action_mask[:, columns].all(1)),
            dataset=dataset,
            rows=rows,
            lengths=lengths,
            robot=index.robot,
            control_hz=float(index.fps[episodes[0]]),
        )

    @property
    def columns(self) -> tuple[object, ...]:
        """What must be the same of all data sets."""
        return self.robot, *self.state_mask.tolist(), *self.action_mask.tolist()


def _pictures(configs: Sequence[DatasetConfig], parts: list[_Part], cameras: list[str], size: int) -> np.ndarray:
    """All of them, uint8, each read to its place: they are most of the memory."""
    shape = (sum(len(part.rows) for part in parts), len(cameras), 3, *((size, size) if cameras else (0, 0)))
    images, first = np.empty(shape, dtype=np.uint8), 0
    for config, part in zip(configs, parts, strict=True):
        for place, camera in enumerate(cameras):
            if camera not in (known := part.dataset.cameras):
                raise ValueError(f"cameras names {camera!r}, but {config.path} has {sorted(known)}: choose there")
            for start in range(0, len(part.rows), _FRAMES_AT_ONCE):
                rows = part.rows[start : start + _FRAMES_AT_ONCE]
                images[first + start :][: len(rows), place] = part.dataset.frames.images(known[camera], rows, size)
        first += len(part.rows)
    return images


@dataclass(frozen=True)
class Windows:
    """Which windows there are: one around every frame that has a next one.

    Attributes:
        trajectories: what they are cut from.
        context: frames before t.
        future: frames after t; at least 1.
        frame: int64 [n], the row of each window's t.
        begin: int64 [n], the first row of its episode; `end` its last.
    """

    trajectories: Trajectories
    context: int
    future: int = 1
    frame: Tensor = field(init=False, repr=False)
    begin: Tensor = field(init=False, repr=False)
    end: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        first = self.trajectories.first
        episode = torch.repeat_interleave(torch.arange(len(first) - 1), first.diff())
        last = first[1:][episode] - 1
        frame = torch.arange(len(self.trajectories))
        keep = frame < last
        if not keep.any():
            raise ValueError("every episode has a single frame: a transition needs two")
        for name, values in (("frame", frame), ("begin", first[:-1][episode]), ("end", last)):
            object.__setattr__(self, name, values[keep])

    def __len__(self) -> int:
        return len(self.frame)

    def with_labels(self) -> Tensor:
        """Which of them have an action at t: int64.

        Raises:
            ValueError: not one has.
        """
        labels = self.trajectories.labels
        places = torch.arange(len(self)) if labels is None else labels[self.frame].nonzero()[:, 0]
        if not len(places):
            raise ValueError("not one transition of the labelled data sets has an action: name others")
        return places

    @property
    def num_frames(self) -> int:
        """Frames of each window."""
        return self.context + 1 + self.future

    @property
    def at_once(self) -> int:
        """Windows to go through at a time where nothing is learned: few of pictures, so that memory holds them."""
        return 256 if self.trajectories.images.shape[1] else 4096

    def batch(self, windows: Tensor, sample_ids: Tensor, labelled: bool) -> Batch:
        """The windows int64 [B] as a Batch; actions are shown only of labelled ones."""
        of = self.trajectories
        offsets = torch.arange(-self.context, self.future + 1)
        wished = self.frame[windows, None] + offsets
        begin, end = self.begin[windows, None], self.end[windows, None]
        rows = torch.maximum(torch.minimum(wished, end), begin)
        inside = (wished[:, :-1] >= begin) & (wished[:, 1:] <= end)
        count, steps = inside.shape
        states = of.states[rows]
        seen = inside if of.labels is None else inside & of.labels[rows[:, :-1]]
        shown = seen[..., None] & of.action_mask if labelled else torch.zeros(count, steps, ACTION_DIM).bool()
        actions = of.actions[rows[:, :-1]] * shown if labelled else torch.zeros(count, steps, ACTION_DIM)
        return Batch(
            images=of.images[rows],
            camera_mask=torch.ones(count, of.images.shape[1], dtype=torch.bool),
            state=states[:, 0],
            state_mask=of.state_mask.expand(count, STATE_DIM),
            actions=actions,
            action_mask=shown,
            instruction=[""] * count,
            subtask=[""] * count,
            sample_ids=sample_ids,
            states=states,
            steps_mask=inside,
        )


@dataclass(frozen=True)
class Grounding:
    """Labelled windows beside the others (CLAM's algorithm 1, lines 7-12).

    Attributes:
        windows: labelled ones.
        every: they come with every so-many-th update, K: updates K, 2 K, ... counted from 1.
        batch_size: how many.
    """

    windows: Windows
    every: int
    batch_size: int


class Transitions:
    """Draws windows, each a function of (seed, sample id): a source for the one loop.

    A batch holds a window for every id and, with every K-th update, as many labelled windows after them as are its
    share of the grounding; only these show actions, which is how a loss tells them apart.

    Args:
        windows: what ids draw from, uniformly.
        seed: of the sampler.
        labelled: whether `windows` show their actions; those without one at t are then left out.
        grounding: labelled windows beside them.
        batch_size: ids an update, over all ranks and micro-batches; grounding needs it to count updates.
        latents: float32 [len(windows), L, D], handed out with the windows.
    """

    def __init__(
        self,
        windows: Windows,
        seed: int,
        *,
        labelled: bool = False,
        grounding: Grounding | None = None,
        batch_size: int = 1,
        latents: Tensor | None = None,
    ) -> None:
        if grounding is not None and grounding.windows.num_frames != windows.num_frames:
            raise ValueError(
                f"grounding windows have {grounding.windows.num_frames} frames, the others {windows.num_frames}: cut "
                "both with the same context and future"
            )
        self.windows, self.labelled, self.latents = windows, labelled, latents
        self._grounding, self._batch_size = grounding, batch_size
        self._places = windows.with_labels() if labelled else torch.arange(len(windows))
        self._sampler = Sampler([1.0], [len(self._places)], seed)
        self._labelled = None if grounding is None else grounding.windows.with_labels()
        self._grounding_sampler = None if self._labelled is None else Sampler([1.0], [len(self._labelled)], seed)

    def batch(self, sample_ids: Sequence[int]) -> Batch:
        """The windows these ids draw, then the labelled ones that come with them."""
        ids = np.asarray(sample_ids, dtype=np.int64)
        drawn = self._places[torch.from_numpy(self._sampler.draw(ids)[1])]
        batch = self._at(drawn, torch.from_numpy(ids))
        grounding = self._grounding
        if grounding is None or (int(ids[0]) // self._batch_size + 1) % grounding.every:
            return batch
        return _joined(batch, self._beside(ids, grounding))

    def in_order(self, batch_size: int) -> Iterator[Batch]:
        """Every window once, with its place as its id; no grounding."""
        for places in self._places.split(batch_size):
            yield self._at(places, places)

    def _at(self, places: Tensor, ids: Tensor) -> Batch:
        batch = self.windows.batch(places, ids, self.labelled)
        return batch if self.latents is None else replace(batch, latents=self.latents[places])

    def _beside(self, ids: np.ndarray, grounding: Grounding) -> Batch:
        """The grounding windows of the update that `ids` are a part of: this part's contiguous share of them."""
        assert self._grounding_sampler is not None
        assert self._labelled is not None
        share, rest = divmod(len(ids) * grounding.batch_size, self._batch_size)
        if rest:
            raise ValueError(
                f"a grounding batch of {grounding.batch_size} does not divide over micro-batches of {len(ids)} in "
                f"batches of {self._batch_size}: make it a multiple of the micro-batches of an update"
            )
        update, place = divmod(int(ids[0]), self._batch_size)
        first = update * grounding.batch_size + place * grounding.batch_size // self._batch_size
        label_ids = _GROUNDING_IDS + np.arange(first, first + share, dtype=np.int64)
        drawn = self._labelled[torch.from_numpy(self._grounding_sampler.draw(label_ids)[1])]
        return grounding.windows.batch(drawn, torch.from_numpy(label_ids), labelled=True)


def _joined(first: Batch, second: Batch) -> Batch:
    """Two batches as one, the second's samples after the first's."""
    whole = {
        name: torch.cat([getattr(first, name), getattr(second, name)])
        for name in first.__dataclass_fields__
        if isinstance(getattr(first, name), Tensor)
    }
    return Batch(**whole, instruction=first.instruction + second.instruction, subtask=first.subtask + second.subtask)
