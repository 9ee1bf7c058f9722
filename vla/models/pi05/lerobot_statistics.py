"""Our normalisation as LeRobot's statistics and back.

Every normalisation of LeRobot's is a straight line, and so is ours; each is told here by the two values that become
-1 and 1, which LeRobot calls q01 and q99.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from data_mixtures.spaces.unified import ACTION_DIM, STATE_DIM
from data_mixtures.statistics.normalisation import Normalisation, Quantiles

_NARROWEST = 1e-6  # what "still" calls a dimension that never moved
_OPENPI_GUARD = 1e-6
# Wide enough to swallow any state it is subtracted from: 2 (x + W) / 2W - 1 is then 0 exactly, as "still" has it.
_SWALLOWING = 1e30
_LARGEST = 1e38  # that the difference of two is still a float32


def to_statistics(normalisation: Normalisation, state_dim: int, action_dim: int) -> dict[str, Tensor]:
    """LeRobot's quantiles by its names, float32, under which its normaliser computes our numbers.

    With the guard "still", a state that never moved becomes 0 and not -1: that needs quantiles that are none. An
    action that never moved becomes its constant under LeRobot's guard too.
    """
    state = _low_high(normalisation.state, state_dim)
    action = _low_high(normalisation.action, action_dim)
    if normalisation.guard == "still":
        still = state[1] - state[0] <= _NARROWEST
        state = torch.where(still, -_SWALLOWING, state[0]), torch.where(still, _SWALLOWING, state[1])
    if normalisation.guard == "openpi":
        state, action = (state[0], state[1] + _OPENPI_GUARD), (action[0], action[1] + _OPENPI_GUARD)
    return {
        f"{key}.{quantile}": values.float()
        for key, pair in (("observation.state", state), ("action", action))
        for quantile, values in zip(("q01", "q99"), pair, strict=True)
    }


def _low_high(quantiles: Quantiles, dim: int) -> tuple[Tensor, Tensor]:
    low, high = (torch.tensor(values[:dim], dtype=torch.float64) for values in (quantiles.q01, quantiles.q99))
    return low, high


def to_normalisation(
    statistics: Mapping[str, Tensor], modes: Mapping[str, str], state_dim: int, action_dim: int
) -> Normalisation:
    """What LeRobot's statistics say, for a robot's own columns.

    Args:
        statistics: `observation.state.q01` and the like.
        modes: LeRobot's normalisation mode of "STATE" and "ACTION".
        state_dim: Numbers of a state.
        action_dim: Numbers of an action.

    Raises:
        ValueError: A mode is unknown, or its statistics are missing, of another width, not finite or out of order.
    """
    return Normalisation(
        state=_quantiles(statistics, "observation.state", modes.get("STATE", "IDENTITY"), state_dim, STATE_DIM),
        action=_quantiles(statistics, "action", modes.get("ACTION", "IDENTITY"), action_dim, ACTION_DIM),
        space="recorded",
        guard="lerobot",
    )


# Mode -> the statistics it reads.
_READ = {
    "QUANTILES": ("q01", "q99"),
    "QUANTILE10": ("q10", "q90"),
    "MIN_MAX": ("min", "max"),
    "MEAN_STD": ("mean", "std"),
}


def _quantiles(statistics: Mapping[str, Tensor], key: str, mode: str, dim: int, width: int) -> Quantiles:
    if mode != "IDENTITY" and mode not in _READ:
        raise ValueError(f"normalization mode of {key} is {mode!r}: known are IDENTITY, {', '.join(_READ)}")
    if mode == "IDENTITY":
        low, high = -torch.ones(dim, dtype=torch.float64), torch.ones(dim, dtype=torch.float64)
    else:
        low, high = (_statistic(statistics, f"{key}.{name}", mode, dim) for name in _READ[mode])
        _check_order(low, high, key, mode)
    if mode == "MEAN_STD":
        low, high = _spread(low, high, is_action=key == "action")
    padding = [0.0] * (width - dim)
    return Quantiles((*low.tolist(), *padding), (*high.tolist(), *padding))


def _check_order(low: Tensor, high: Tensor, key: str, mode: str) -> None:
    first, second = _READ[mode]
    wrong = high < (0 if mode == "MEAN_STD" else low)
    if wrong.any():
        place = int(wrong.int().argmax())
        least = "0" if mode == "MEAN_STD" else f"{key}.{first}[{place}], which is {low[place]:g}"
        raise ValueError(f"{key}.{second}[{place}] is {high[place]:g}, below {least}: measure the statistics again")


def _spread(mean: Tensor, std: Tensor, is_action: bool) -> tuple[Tensor, Tensor]:
    """One deviation around the mean; a state without any becomes 0, an action without any its mean."""
    still = torch.zeros_like(std, dtype=torch.bool) if is_action else std == 0
    return torch.where(still, -_SWALLOWING, mean - std), torch.where(still, _SWALLOWING, mean + std)


def _statistic(statistics: Mapping[str, Tensor], name: str, mode: str, dim: int) -> Tensor:
    if name not in statistics:
        raise ValueError(
            f"there is no {name} among the statistics, which the mode {mode} needs; there are {sorted(statistics)}"
        )
    if tuple(statistics[name].shape) != (dim,):
        raise ValueError(f"{name} has {list(statistics[name].shape)} numbers, but the feature has {dim}")
    values = statistics[name].double()
    odd = ~(values.abs() < _LARGEST)
    if odd.any():
        place = int(odd.int().argmax())
        raise ValueError(f"{name}[{place}] is {values[place]:g}, which scales nothing: measure the statistics again")
    return values
