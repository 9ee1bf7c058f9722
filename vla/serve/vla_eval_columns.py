"""Between the columns a benchmark of the public harness sends and takes, and those a policy reads and gives.

Commands that are written down in another way (a gripper's sign, Euler angles for axis-angle, shares of a largest step
for metres) are converted by what both sides say of their columns. What cannot be converted is refused in words.
"""

from collections.abc import Mapping

import numpy as np

from data_mixtures.spaces.embodiments import Arm, ArmAction, Embodiment
from data_mixtures.spaces.unified import STATE_DIM
from vla.serve.conversation import HangUpError
from vla.serve.observations import Sizes
from vla.serve.vla_eval_benchmarks import Benchmark


class Columns:
    """One benchmark's numbers for one policy.

    Args:
        benchmark: What it sends and takes.
        sizes: Of the policy.
        robot: Whose columns the policy reads and gives; None where they are those of the unified spaces.
    """

    def __init__(self, benchmark: Benchmark, sizes: Sizes, robot: Embodiment | None) -> None:
        self._benchmark, self._sizes, self._robot = benchmark, sizes, robot
        self._takes, self._gives = benchmark.robot, robot
        if robot is not None and robot.recorded is not None:  # trained on the benchmark's recordings as they are
            self._gives = benchmark.recorded or benchmark.robot
        self._alike = (
            self._gives is not None and self._takes is not None and _actions(self._gives) == _actions(self._takes)
        )

    def check_state(self) -> None:
        """Hang up where the state is not what the policy reads.

        Raises:
            HangUpError: Naming both.
        """
        there, ours = self._benchmark, self._sizes.state_dim
        if there.state is None:
            raise HangUpError(f"{there.name} sends no state; this policy reads one of {ours} numbers")
        if there.state_dim == 0 or (self._unified and ours == STATE_DIM):
            return
        if there.state_dim != ours:
            raise HangUpError(f"{there.name} has a state of {there.state_dim} numbers, this policy {ours}: see --robot")
        if self._robot is None or self._robot.recorded is not None or self._takes is None:
            return
        if _states(self._robot) != _states(self._takes):
            raise HangUpError(
                f"{there.name}'s state is in other columns than {self._robot.robot_type!r}'s: see --robot"
            )

    def check_commands(self) -> None:
        """Hang up where the policy's commands cannot become the benchmark's; raises as `check_state`."""
        there, ours = self._benchmark, self._sizes.action_dim
        as_they_are = self._takes is None or (self._robot is not None and self._robot.recorded is not None)
        if as_they_are and there.action_dim not in (0, ours):
            raise HangUpError(f"{there.name} has an action of {there.action_dim} numbers, this policy {ours}")
        if self._takes is None or self._gives is None:
            return
        if (self._takes.action_mask & ~self._gives.action_mask).any():
            raise HangUpError(f"{there.name} takes more than {self._gives.robot_type!r} commands: see --robot")

    @property
    def _unified(self) -> bool:
        return self._robot is None and self._takes is not None

    def state(self, sent: np.ndarray) -> np.ndarray:
        """A state as it was sent -> the columns the policy reads."""
        if self._benchmark.convert is not None and len(sent) == 8:
            sent = self._benchmark.convert(sent)
        if self._unified and self._takes is not None and self._sizes.state_dim == STATE_DIM:
            return self._takes.to_unified_state(sent)
        return sent

    def commands(self, chunk: np.ndarray) -> np.ndarray:
        """Actions [n, action_dim] of the policy -> float32 [n, its own action_dim] of the benchmark."""
        if self._takes is None or self._alike:
            return chunk
        unified = chunk if self._gives is None else self._gives.to_unified_action(chunk)
        return self._takes.action_from_unified(unified).astype(np.float32)


def _actions(robot: Embodiment | None) -> Mapping[str, ArmAction] | None:
    return None if robot is None else {side: arm.action for side, arm in robot.arms.items()}


def _states(robot: Embodiment) -> Mapping[str, Arm]:
    return {side: Arm(arm.position, arm.rotation, arm.gripper) for side, arm in robot.arms.items()}
