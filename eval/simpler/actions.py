"""From a policy's action to the controller's: rotations, and each robot's gripper. Part of the suite, not of policies.

A policy's action, in both robots' data sets: change of the end effector's position in the base frame (m, 3), of its
rotation (3), and the gripper's opening, 0 closed .. 1 open. The controller takes the same change of position, the
rotation as axis times angle (rad), and one number for the gripper that means another thing for each robot:

    WidowX        where the fingers are to be: +1 open, -1 closed
    Google robot  how they are to move from where they are: +1 closes, -1 opens, 0 holds
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from eval.simpler.poses import axis_angle_from_euler

RotationForm = Literal["euler_xyz", "axis_angle"]
"""How a policy writes a change of rotation: angles about the fixed x, y, z in that order, or axis times angle."""
StickyTrigger = Literal["step_change", "decided_change", "level"]
"""What the Google robot's gripper follows: the change of the wanted opening since the action before (Octo), since the
last decided command (openpi-style policies, whose opening drifts over several actions), or the opening itself."""

_OPEN_ABOVE = 0.5
_MOVES_ABOVE = 0.5


class AbsoluteGripper:
    """WidowX: the wanted opening, made open or closed."""

    def __call__(self, opening: float) -> float:
        """+1 above an opening of one half, else -1."""
        return 1.0 if opening > _OPEN_ABOVE else -1.0


class StickyGripper:
    """Google robot: a decided command to open or close is repeated, for the fingers need seconds to arrive.

    Without it success is 0: one relative command moves them a fraction of the way.

    Args:
        steps: How often a decided command is carried out, the first time counted.
        trigger: What a command is made of.
    """

    def __init__(self, steps: int, trigger: StickyTrigger) -> None:
        self._steps, self._trigger = steps, trigger
        self._before: float | None = None
        self._held, self._left = 0.0, 0

    def __call__(self, opening: float) -> float:
        """The controller's number: +1 closes, -1 opens."""
        command = self._command(opening)
        if self._left == 0 and abs(command) > _MOVES_ABOVE:
            self._held, self._left = command, self._steps
            self._before = opening
        if self._left == 0:
            return command
        self._left -= 1
        return self._held

    def _command(self, opening: float) -> float:
        if self._trigger == "level":
            return 1.0 - 2.0 * opening
        before = opening if self._before is None else self._before
        if self._trigger == "step_change" or self._before is None:
            self._before = opening
        return before - opening


Gripper = AbsoluteGripper | StickyGripper


def controller_action(action: NDArray[np.float32], rotation: RotationForm, gripper: Gripper) -> NDArray[np.float32]:
    """The seven numbers the controller takes, float32; `gripper` remembers what it was told before."""
    turn = np.asarray(action[3:6], np.float64)
    if rotation == "euler_xyz":
        turn = axis_angle_from_euler(turn)
    return np.concatenate([action[:3], turn, [gripper(float(action[6]))]]).astype(np.float32)
