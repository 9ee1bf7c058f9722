"""The columns of Meta-World's observations and commands, for suites and data sets alike."""

from eval.metaworld.episode import Observation
from eval.suite import Column

_HAND = (
    Column("eef_x", "m", -0.6, 0.6),
    Column("eef_y", "m", 0.2, 1.1),
    Column("eef_z", "m", -0.1, 0.8),
    Column("gripper_opening", "1", 0.0, 1.0),
)

# Quaternions are numbered, not lettered: tasks differ in whether the real part comes first.
_OBJECTS = tuple(
    column
    for which in ("object_1", "object_2")
    for column in (
        *(Column(f"{which}_{axis}", "m", -2.0, 2.0) for axis in "xyz"),
        *(Column(f"{which}_quaternion_{place}", "1", -1.0, 1.0) for place in range(4)),
    )
)

ACTION = (
    Column("delta_x", "1", -1.0, 1.0),
    Column("delta_y", "1", -1.0, 1.0),
    Column("delta_z", "1", -1.0, 1.0),
    Column("gripper_closing", "1", -1.0, 1.0),
)
"""Commands; 1 moves the hand's target 0.01 m in each of a decision's simulator steps."""


def state_columns(observation: Observation) -> tuple[Column, ...]:
    """What an episode's `state` holds; positions are in the world frame, ranges as the arm and objects can reach."""
    if observation == "robot":
        return _HAND
    now = (*_HAND, *_OBJECTS)
    before = tuple(Column(f"previous_{column.name}", column.unit, column.low, column.high) for column in now)
    return (*now, *before, *(Column(f"goal_{axis}", "m", -2.0, 2.0) for axis in "xyz"))
