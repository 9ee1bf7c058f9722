"""What a trained latent action model makes of held-out trajectories: its actions, and what it predicts (table 9)."""

import torch
from torch import Tensor

from data_mixtures.transitions import Transitions, Windows
from lam.clam.model import LatentActionModel
from lam.clam.stage import ActionError, reading

# Of the squares of pixels in [-1, 1], to have them in [0, 1].
_TO_UNIT_RANGE = 0.25


@torch.inference_mode()
def heldout_errors(model: LatentActionModel, heldout: Windows) -> dict[str, float]:
    """Mean squared errors over all held-out windows.

    Args:
        model: In eval mode.
        heldout: Labelled windows with the model's context and as many future frames as it predicts steps.

    Returns:
        `action_error` in [-1, 1]. With a forward model `reconstruction`, and `copy`: what predicting that nothing
        changes would err by (the paper's cheat loss). Of pictures these are of pixels in [0, 1], of states in the units
        the model learns in.
    """
    found = dict(ActionError(Transitions(heldout, seed=0, labelled=True)).run(model))
    if model.forward_model is None:
        return found
    parts: dict[str, list[Tensor]] = {"reconstruction": [], "copy": []}
    for batch in Transitions(heldout, seed=0).in_order(heldout.at_once):
        errors = model(reading(batch))
        for name, values in parts.items():
            values.append(errors[name])
    return found | {name: float(torch.cat(values).mean()) * _scale(model) for name, values in parts.items()}


def _scale(model: LatentActionModel) -> float:
    if model.config.image_size is None:
        return 1.0
    changes = float(model.standard.picture_change) ** 2 if model.config.inputs == "change" else 1.0
    return _TO_UNIT_RANGE * changes
