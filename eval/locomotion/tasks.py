"""The two robots of CLAM's table 1 as data: columns, rewards, and the returns that scores are measured between."""

from dataclasses import dataclass
from typing import Literal, get_args

from eval.suite import Column

Robot = Literal["hopper", "halfcheetah"]
ROBOTS: tuple[Robot, ...] = get_args(Robot)

ACTION_REPEAT = 2
"""Simulator steps a decision lasts (CLAM, table 14), unless another number is asked for."""

EPISODE_STEPS = 1000
"""Simulator steps of an episode (CLAM, table 14)."""

MAX_DECISIONS = EPISODE_STEPS // ACTION_REPEAT
"""Decisions of an episode."""


@dataclass(frozen=True)
class References:
    """The returns that are 0 and 1 of a normalised return, (return - random) / (expert - random).

    Attributes:
        random: Return of uniformly random actions.
        expert: Return of the expert.
    """

    random: float
    expert: float

    def normalised(self, episode_return: float) -> float:
        """0 for random, 1 for the expert; neither is a bound."""
        return (episode_return - self.random) / (self.expert - self.random)


@dataclass(frozen=True)
class LocomotionTask:
    """One robot.

    Attributes:
        name: As in tables.
        instruction: What is to be done, in words.
        model: Its file among gymnasium's assets.
        physics_steps: Physics steps a simulator step lasts.
        step_hz: Simulator steps a second.
        positions: Names of the observed joint positions (m for root_z, else rad); where the robot is along x is not
            observed.
        velocities: Names of the observed joint velocities (m/s and rad/s).
        actuators: Names of the torques, each in [-1, 1] of the actuator's range.
        velocity_limit: Observed velocities are cut to plus and minus this.
        control_cost: Times the sum of squared actions, taken from each simulator step's reward.
        alive_reward: Of each simulator step that ends upright.
        falls: Whether it can fall, after which nothing is rewarded.
        initial_noise: Half the range of each initial position's uniform draw.
        normal_velocities: Whether initial velocities are drawn from a normal distribution of that deviation, or as
            positions are.
        d4rl: D4RL's reference returns (its infos.py), of its own, stronger agents.
        stand_in: Reference returns under this protocol: of random actions, and of the expert that recording.py trains
            with its defaults; seeds 0 to 199 each, mujoco 3.3.0. Deviations of single episodes: Hopper 10 and 7,
            HalfCheetah 53 and 1330, whose expert falls on its back from one start in six.
    """

    name: Robot
    instruction: str
    model: str
    physics_steps: int
    step_hz: float
    positions: tuple[str, ...]
    velocities: tuple[str, ...]
    actuators: tuple[str, ...]
    velocity_limit: float
    control_cost: float
    alive_reward: float
    falls: bool
    initial_noise: float
    normal_velocities: bool
    d4rl: References
    stand_in: References

    @property
    def robot_type(self) -> str:
        """What data sets call it."""
        return f"gymnasium_{self.name}"

    @property
    def state_names(self) -> tuple[str, ...]:
        """Of the observation's numbers."""
        return self.positions + tuple(f"{name}_velocity" for name in self.velocities)

    @property
    def state_columns(self) -> tuple[Column, ...]:
        """The observation, with ranges as wide as these robots get."""
        places = tuple(Column(n, "m" if n.endswith("_z") else "rad", -10.0, 10.0) for n in self.positions)
        limit = min(self.velocity_limit, 100.0)
        names = zip(self.velocities, self.state_names[len(places) :], strict=True)
        return places + tuple(
            Column(column, "m/s" if joint in ("root_x", "root_z") else "rad/s", -limit, limit)
            for joint, column in names
        )

    @property
    def action_columns(self) -> tuple[Column, ...]:
        """The torques."""
        return tuple(Column(name, "1", -1.0, 1.0) for name in self.actuators)


_HOPPER_JOINTS = ("thigh", "leg", "foot")
_CHEETAH_JOINTS = tuple(f"{end}_{part}" for end in ("back", "front") for part in ("thigh", "shin", "foot"))

_TASKS: dict[str, LocomotionTask] = {
    "hopper": LocomotionTask(
        name="hopper",
        instruction="hop forward as fast as possible",
        model="hopper.xml",
        physics_steps=4,
        step_hz=125.0,
        positions=("root_z", "root_angle", *_HOPPER_JOINTS),
        velocities=("root_x", "root_z", "root_angle", *_HOPPER_JOINTS),
        actuators=_HOPPER_JOINTS,
        velocity_limit=10.0,
        control_cost=1e-3,
        alive_reward=1.0,
        falls=True,
        initial_noise=5e-3,
        normal_velocities=False,
        d4rl=References(-20.272305, 3234.3),
        stand_in=References(11.9, 2785.7),
    ),
    "halfcheetah": LocomotionTask(
        name="halfcheetah",
        instruction="run forward as fast as possible",
        model="half_cheetah.xml",
        physics_steps=5,
        step_hz=20.0,
        positions=("root_z", "root_angle", *_CHEETAH_JOINTS),
        velocities=("root_x", "root_z", "root_angle", *_CHEETAH_JOINTS),
        actuators=_CHEETAH_JOINTS,
        velocity_limit=float("inf"),
        control_cost=0.1,
        alive_reward=0.0,
        falls=False,
        initial_noise=0.1,
        normal_velocities=True,
        d4rl=References(-280.178953, 12135.0),
        stand_in=References(-228.6, 3094.5),
    ),
}


def locomotion_task(name: str) -> LocomotionTask:
    """The robot of that name; ValueError names those there are."""
    if name not in _TASKS:
        raise ValueError(f"robot: {name!r} is none of {', '.join(ROBOTS)}")
    return _TASKS[name]
