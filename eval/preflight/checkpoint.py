"""What a checkpoint says of itself, read without its weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from data_mixtures.spaces.embodiments import Embodiment
from data_mixtures.statistics.normalisation import Normalisation
from data_mixtures.statistics.seen import Seen


@dataclass(frozen=True)
class Checkpoint:
    """The side of the policy in every comparison.

    Attributes:
        name: For messages.
        cameras: Names the policy knows.
        horizon: Actions of a chunk.
        normalisation: Quantiles of its training data.
        robot: Whose columns it speaks; None where it was trained on several.
        state_in_prompt: Whether it looks at the state at all.
        frame_size: Pixels a side of the frames it was trained on; None for a published one.
        seen: What its training pictures looked like; None for a checkpoint without.
        centre_crop: Camera -> share of a side that its frames are cut to before the policy acts on them.
    """

    name: str
    cameras: tuple[str, ...]
    horizon: int
    normalisation: Normalisation
    robot: Embodiment | None
    state_in_prompt: bool = True
    frame_size: int | None = None
    seen: Seen | None = None
    centre_crop: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path, robot: Embodiment | None = None) -> "Checkpoint":
        """Of a model folder, ours or LeRobot's; `robot` goes before the one it names.

        Raises:
            ValueError: the folder holds no model, or a damaged one.
        """
        from vla.models.pi05.lerobot_read import is_lerobot_folder, read  # torch comes with it
        from vla.models.pi05.processor import PROCESSOR_FILE, Processor

        if not (folder / PROCESSOR_FILE).is_file() and (folder / "model" / PROCESSOR_FILE).is_file():
            folder = folder / "model"  # a run's
        ours = (folder / PROCESSOR_FILE).is_file() or not is_lerobot_folder(folder)
        processor = Processor.load(folder) if ours else read(folder)
        return cls(
            name=str(folder),
            cameras=processor.cameras,
            horizon=processor.model.horizon,
            normalisation=processor.normalisation,
            robot=robot or processor.robot,
            state_in_prompt=processor.model.state_in_prompt,
            frame_size=processor.frame_size,
            seen=Seen.load(folder),
            centre_crop=processor.centre_crop,
        )
