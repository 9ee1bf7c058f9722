"""A policy of a few thousand random parameters, as the folder that a run leaves behind."""

from dataclasses import replace
from pathlib import Path

from safetensors.torch import save_file

from data_mixtures.spaces.embodiments import METAWORLD_SAWYER
from data_mixtures.statistics.normalisation import Quantiles
from tests.vla.models.pi05.students import TASKS, normalisation, randomise, tiny_config
from vla.models.pi05.stage import ActionConfig, ActionStage


def write_nano_policy(folder: Path, horizon: int = 8) -> Path:
    """A model folder of a policy for Meta-World's arm with the cameras `front` and `wrist`."""
    config, spans = ActionConfig(model=tiny_config(horizon=horizon)), normalisation()
    # A hundredth of the span, so that what random parameters ask for is not cut off at the robot's limits.
    small = Quantiles(*(tuple(0.01 * x for x in side) for side in (spans.action.q01, spans.action.q99)))
    spans = replace(spans, action=small)
    stage = ActionStage(config, spans, ["front", "wrist"], TASKS, robot=METAWORLD_SAWYER, frame_size=16)
    module = stage.build()
    randomise(module)
    module.action_out_proj.weight.data *= 0.1  # a gentle flow: seeds and observations matter, and guidance can guide
    folder.mkdir(parents=True, exist_ok=True)
    save_file(module.state_dict(), folder / "model.safetensors")
    stage.save_assets(folder)
    return folder
