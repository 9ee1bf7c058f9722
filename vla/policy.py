"""From a model folder to actions: what a robot, a simulator or a server calls.

policy = Policy.from_pretrained("runs/mine/finetune/model")
actions = policy.act(Observation({"base": frame}, state, "fold the cloth"))   # [S, action_dim], the robot's own units
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from data_mixtures.batch import Batch
from data_mixtures.spaces.embodiments import Embodiment, embodiment_of
from data_mixtures.spaces.unified import ACTION_DIM, STATE_DIM
from data_mixtures.storage.frames import fit_square
from vla.models.pi05.convert import WeightFile
from vla.models.pi05.generate import generate_text
from vla.models.pi05.images import resize_with_pad, to_unit_range
from vla.models.pi05.inference import Sampler
from vla.models.pi05.lerobot_read import is_lerobot_folder, read
from vla.models.pi05.load import load_published
from vla.models.pi05.model import Pi05, Prefix
from vla.models.pi05.processor import PROCESSOR_FILE, Processor
from vla.models.pi05.realtime import sample_committed, soft_mask
from vla.nn.randomness import normal_like_ids
from vla.observation import Observation as Observation  # what is shown to a policy is imported from here
from vla.train.export import WEIGHTS_FILE

_NOISE = 401
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class UnifiedObservation:
    """The same in the space the policy was trained in.

    Attributes:
        images: As in `Observation`.
        state: float32 [46], physical units.
        state_mask: bool [46], the dimensions the robot has.
        instruction: What is to be done.
    """

    images: dict[str, np.ndarray]
    state: np.ndarray
    state_mask: np.ndarray
    instruction: str


@dataclass(frozen=True)
class Committed:
    """What an earlier chunk still has the robot doing, for real-time chunking.

    Attributes:
        actions: float32 [k, action_dim], robot's own units: the earlier chunk from the observation's moment on.
        frozen: How many of them will be carried out whatever comes.
    """

    actions: np.ndarray
    frozen: int


class Policy:
    """A trained student with the transforms it was trained under.

    Args:
        model: With its weights; they are taken over (see `Sampler`).
        processor: Saved beside them.
        dtype: Of the computation.
        robot: Whose numbers `act` takes and gives; the processor's if None. Where neither is known they are those of
            the unified spaces.
        compiled: Compile the layers (see `Sampler`); the first chunk then takes minutes.
        graphs: On a CUDA device, record and replay whole chunks as CUDA graphs.

    Attributes:
        cameras: Names the policy knows.
        horizon: Actions of a chunk.
    """

    def __init__(
        self,
        model: Pi05,
        processor: Processor,
        dtype: torch.dtype = torch.float32,
        robot: Embodiment | None = None,
        compiled: bool = False,
        graphs: bool = False,
    ) -> None:
        self.model, self.processor = model.eval().requires_grad_(False), processor
        self.device = model.action_in_proj.weight.device
        self.robot = robot or processor.robot
        self.cameras, self.horizon = processor.cameras, processor.model.horizon
        self._check_robot()
        self._sampler = Sampler(self.model, dtype, compiled, graphs)
        self._one_at_a_time = threading.Lock()  # the sampler's graphs have one set of inputs

    @classmethod
    def from_pretrained(
        cls,
        folder_or_hub_id: Path | str,
        *,
        device: str = "cpu",
        dtype: Literal["float32", "bfloat16"] = "float32",
        robot: str | None = None,
        revision: str | None = None,
        compiled: bool = False,
        graphs: bool = False,
    ) -> "Policy":
        """Load a model: a run's folder or its `model`, a LeRobot checkpoint's folder, or what a Hub repository holds.

        Args:
            folder_or_hub_id: A folder, or `user/name`.
            device: Where it runs.
            dtype: bfloat16 keeps the published float32 islands.
            robot: A robot known by name, where the policy was trained on several.
            revision: Of the Hub repository: a tag, branch or commit.
            compiled: Compile the layers.
            graphs: Use CUDA graphs.

        Raises:
            ValueError: There is no such model, or it cannot be one; the message says what to do.
        """
        if dtype not in _DTYPES:
            raise ValueError(f"dtype is {dtype!r}: give one of {', '.join(_DTYPES)}")
        if torch.device(device).type == "cuda" and not torch.cuda.is_available():
            raise ValueError(f"device is {device!r}, but torch finds no GPU here: use `cpu`, or a CUDA build of torch")
        folder = model_folder(folder_or_hub_id, revision)
        ours = (folder / PROCESSOR_FILE).is_file() or not is_lerobot_folder(folder)
        processor = Processor.load(folder) if ours else read(folder)
        with torch.device("meta"):
            model = Pi05(processor.model)
        load_published(model, WeightFile(folder))
        speaks = None if robot is None else embodiment_of(robot)
        return cls(model.to(device), processor, _DTYPES[dtype], speaks, compiled, graphs)

    @property
    def state_dim(self) -> int:
        """Numbers of an observation's state."""
        return STATE_DIM if self.robot is None else self.robot.state_width

    @property
    def action_dim(self) -> int:
        """Numbers of an action."""
        return ACTION_DIM if self.robot is None else self.robot.action_width

    def act(self, observation: Observation, seed: int = 0, committed: Committed | None = None) -> np.ndarray:
        """One chunk, float32 [S, action_dim], in the robot's own units; see `act_many`."""
        return self.act_many([observation], [seed], [committed])[0]

    def act_many(
        self,
        observations: Sequence[Observation],
        seeds: Sequence[int],
        committed: Sequence[Committed | None] | None = None,
    ) -> np.ndarray:
        """Chunks for several observations at once: float32 [n, S, action_dim] in the robot's own units.

        Args:
            observations: Of one or of several robots of the same kind.
            seeds: One an observation. Its noise follows from its own seed, so what it is batched with changes nothing
                but rounding.
            committed: For each, what an earlier chunk still holds; None where it begins anew.

        Raises:
            ValueError: An observation does not fit the policy; the message names the field.
            RuntimeError: The policy's actions are not finite: its weights or statistics are damaged.
        """
        if not observations:
            raise ValueError("observations is empty: give at least one")
        if committed is not None and len(committed) != len(observations):
            raise ValueError(
                f"committed has {len(committed)} entries for {len(observations)} observations: give one each"
            )
        unified = [self._unified(observation) for observation in observations]
        if committed is None or all(plan is None for plan in committed):
            chunks = self.unified_chunks(unified, seeds)
        else:
            chunks = self._continued(unified, seeds, committed)
        return chunks if self.robot is None else self.robot.action_from_unified(chunks).astype(np.float32)

    @torch.inference_mode()
    def unified_chunks(self, observations: Sequence[UnifiedObservation], seeds: Sequence[int]) -> np.ndarray:
        """Chunks float32 [n, S, 44] in the space trained in and physical units; absent dimensions are 0."""
        prefix, noise = self._inputs(observations, seeds)
        with self._one_at_a_time:
            actions = self._sampler(prefix, noise)
        return self._physical(actions)

    @torch.inference_mode()
    def generate(self, observations: Sequence[Observation], max_tokens: int = 32) -> list[str]:
        """The sub-task the student would name for each observation, by greedy decoding."""
        batch = self._batch([self._unified(observation) for observation in observations])
        prefix = self.processor.prefix(batch, self.processor.subtask_after)
        return [self.processor.tokenizer.decode(row) for row in generate_text(self.model, prefix, max_tokens)]

    def _continued(
        self, unified: Sequence[UnifiedObservation], seeds: Sequence[int], committed: Sequence[Committed | None]
    ) -> np.ndarray:
        """Chunks that go on from committed ones: real-time chunking, on the plain model."""
        with torch.inference_mode():
            prefix, noise = self._inputs(unified, seeds)
        earlier = np.zeros((len(unified), self.horizon, ACTION_DIM), np.float32)
        for row, plan in enumerate(committed):
            if plan is not None:
                earlier[row, : len(plan.actions)] = self._committed_actions(plan)
        everywhere = torch.ones(earlier.shape, dtype=torch.bool)
        normal, _ = self.processor.normalised(torch.from_numpy(earlier), everywhere)
        frozen = [0 if plan is None else plan.frozen for plan in committed]
        steps = [0 if plan is None else len(plan.actions) for plan in committed]
        weights = soft_mask(frozen, steps, self.horizon).to(self.device)
        actions = sample_committed(self.model, prefix, noise, normal.to(self.device), weights)
        return self._physical(actions)

    def _physical(self, actions: Tensor) -> np.ndarray:
        physical = self.processor.physical(actions).cpu().numpy()
        if not np.isfinite(physical).all():
            raise RuntimeError("the policy's actions are not finite: its weights or its statistics are damaged")
        return physical

    def _committed_actions(self, plan: Committed) -> np.ndarray:
        """An earlier chunk's rest in the space trained in: float32 [k, 44]."""
        actions = np.asarray(plan.actions, np.float32)
        if actions.ndim != 2 or actions.shape[1] != self.action_dim or len(actions) > self.horizon:
            raise ValueError(
                f"committed.actions has shape {actions.shape}: give [k, {self.action_dim}], k at most {self.horizon}"
            )
        if not np.isfinite(actions).all():
            raise ValueError("committed.actions holds a number that is not finite")
        if not isinstance(plan.frozen, int | np.integer) or not 0 <= plan.frozen <= len(actions):
            raise ValueError(f"committed.frozen is {plan.frozen!r}: give a whole number from 0 to {len(actions)}")
        if self.robot is None:
            return actions
        if self.robot.recorded is not None:  # chosen and ordered already, as `act` gave them
            return np.pad(actions, ((0, 0), (0, ACTION_DIM - actions.shape[1])))
        return self.robot.to_unified_action(actions)

    def _inputs(self, observations: Sequence[UnifiedObservation], seeds: Sequence[int]) -> tuple[Prefix, Tensor]:
        """What the network sees, and the noise [n, S, A] it starts from."""
        if len(observations) != len(seeds):
            raise ValueError(f"seeds has {len(seeds)} entries for {len(observations)} observations: give one each")
        for seed in seeds:
            if not isinstance(seed, int | np.integer) or not 0 <= seed < 2**63:
                raise ValueError(f"seeds holds {seed!r}: give whole numbers from 0 to 2**63 - 1")
        config = self.processor.model
        ids = torch.tensor([int(seed) for seed in seeds])
        noise = normal_like_ids(ids, (config.horizon, config.action_dim), 0, _NOISE).to(self.device)
        if not config.noisy_padding:
            noise = noise * self.processor.action_dims.to(self.device)
        return self.processor.prefix(self._batch(observations), "action"), noise

    def _unified(self, observation: Observation) -> UnifiedObservation:
        if np.iscomplexobj(observation.state):
            raise ValueError("state holds complex numbers")
        state = np.asarray(observation.state, np.float32)
        if state.shape != (self.state_dim,):
            name = "the unified state" if self.robot is None else repr(self.robot.robot_type)
            raise ValueError(f"state has shape {state.shape}: {name} has {self.state_dim} numbers")
        if not np.isfinite(state).all():
            raise ValueError(f"state[{int(np.flatnonzero(~np.isfinite(state))[0])}] is not finite")
        if self.robot is None:
            quantiles = self.processor.normalisation.state
            mask = (np.array(quantiles.q01) != 0) | (np.array(quantiles.q99) != 0)
            return UnifiedObservation(observation.images, state * mask, mask, observation.instruction)
        unified, mask = self.robot.to_unified_state(state), self.robot.state_mask
        return UnifiedObservation(observation.images, unified, mask, observation.instruction)

    def _check_robot(self) -> None:
        if self.robot is not None and self.robot.space != self.processor.normalisation.space:
            raise ValueError(
                f"robot {self.robot.robot_type!r} is in the {self.robot.space} space, but the policy was trained in "
                f"the {self.processor.normalisation.space} one: leave `robot` out, or name one it was trained on"
            )

    def _batch(self, observations: Sequence[UnifiedObservation]) -> Batch:
        """Observations as the Batch training saw."""
        images, camera_mask = self._images(observations)
        count, horizon = len(observations), self.horizon
        return Batch(
            images=images,
            camera_mask=camera_mask,
            state=torch.from_numpy(np.stack([o.state for o in observations]).astype(np.float32)),
            state_mask=torch.from_numpy(np.stack([o.state_mask for o in observations]).astype(bool)),
            actions=torch.zeros(count, horizon, ACTION_DIM),
            action_mask=torch.zeros(count, horizon, ACTION_DIM, dtype=torch.bool),
            instruction=[o.instruction for o in observations],
            subtask=[""] * count,
            sample_ids=torch.arange(count),
        ).to(self.device)

    def _images(self, observations: Sequence[UnifiedObservation]) -> tuple[Tensor, Tensor]:
        """Frames [n, 1, cameras, 3, size, size] as training made them, and which are there bool [n, cameras]."""
        size = self.processor.frame_size or self.processor.model.vision.image_size
        dtype = torch.float32 if self.processor.frame_size is None else torch.uint8
        images = torch.zeros((len(observations), 1, len(self.cameras), 3, size, size), dtype=dtype)
        mask = torch.zeros((len(observations), len(self.cameras)), dtype=torch.bool)
        for row, observation in enumerate(observations):
            if not isinstance(observation.instruction, str):
                raise ValueError(f"instruction is {observation.instruction!r}: give a text")
            if not observation.images:
                raise ValueError(f"observations hold no image; this policy looks through {list(self.cameras)}")
            if unknown := observation.images.keys() - set(self.cameras):
                raise ValueError(f"images name the cameras {sorted(unknown)}; this policy knows {list(self.cameras)}")
            for name, frame in observation.images.items():
                index = self.cameras.index(name)
                images[row, 0, index], mask[row, index] = self._fitted(name, frame), True
        return images, mask

    def _fitted(self, camera: str, frame: np.ndarray) -> Tensor:
        """One frame uint8 [H, W, 3] as the network was shown them: [3, size, size], float if published."""
        if not isinstance(frame, np.ndarray):
            raise ValueError(f"images[{camera!r}] is a {type(frame).__name__}: give a numpy array uint8 [H, W, 3]")
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or 0 in frame.shape:
            raise ValueError(f"images[{camera!r}] must be uint8 [H, W, 3], got {frame.dtype} {list(frame.shape)}")
        if self.processor.frame_size is not None:
            return torch.from_numpy(fit_square(frame[None], self.processor.frame_size)[0])
        planes = to_unit_range(torch.from_numpy(np.ascontiguousarray(frame.transpose(2, 0, 1))))
        return resize_with_pad(planes[None], self.processor.model.vision.image_size)[0]


def model_folder(folder_or_hub_id: Path | str, revision: str | None = None) -> Path:
    """Where the weights are: the folder itself, a run's `model`, or the folder a Hub repository was fetched to."""
    folder = Path(folder_or_hub_id)
    if not (folder / WEIGHTS_FILE).exists() and (folder / "model" / WEIGHTS_FILE).exists():
        folder = folder / "model"  # a run's
    parts = str(folder_or_hub_id).split("/")
    if folder.exists() or len(parts) != 2 or not all(parts):
        if revision is not None:
            raise ValueError(f"revision is {revision!r}, but {folder} is a folder: revisions are of Hub repositories")
        return folder
    from vla.hub.pull import download_model

    try:
        return download_model(str(folder_or_hub_id), revision)
    except ValueError as error:
        raise ValueError(f"{folder_or_hub_id} is no folder here, and from the Hub: {error}") from error
