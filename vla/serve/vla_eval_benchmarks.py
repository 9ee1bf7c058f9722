"""What the benchmarks of the public evaluation harness send and take, as data: cameras, state, commands, requests.

Every benchmark sends {"images": {camera: picture}, "task_description": text, ...}; only the names differ, and what
the numbers mean. A client says at its start which benchmark it plays, by the class it imports. As of vla-eval 0.8.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from data_mixtures.spaces.arm_columns import Gripper, Position, Rotation
from data_mixtures.spaces.embodiments import (
    LIBERO_COMMANDS,
    SIMPLER_GOOGLE,
    SIMPLER_WIDOWX,
    Arm,
    ArmAction,
    Embodiment,
)
from data_mixtures.spaces.rotations import euler_from_matrix, matrix_from_xyzw, xyzw_from_wxyz


@dataclass(frozen=True)
class Benchmark:
    """One benchmark's side of the wire.

    Attributes:
        name: What it is called in words.
        cameras: Each camera it can send -> names data sets know it by. Empty: not known, any name goes.
        wrist: The camera it sends only where asked to.
        state: The key of its state; None where it sends none, "" where not known: `STATE_KEYS` are looked for.
        convert: What it sends as state -> the columns of its robot's data sets.
        state_dim: Numbers of the state, converted; 0 where not known.
        action_dim: Numbers of an action; 0 where not known.
        robot: Columns and units of that state and of the commands it carries out; None: taken as they are.
        recorded: Its data sets' commands, where those are not what it carries out.
        asks: What the benchmark is asked for beside `send_state` and `send_wrist_image`: parameters of its class.
        execute: Actions of each chunk that its protocol carries out before the policy is asked again; None: all.
    """

    name: str
    cameras: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    wrist: str | None = None
    state: str | None = ""
    convert: Callable[[np.ndarray], np.ndarray] | None = None
    state_dim: int = 0
    action_dim: int = 0
    robot: Embodiment | None = None
    recorded: Embodiment | None = None
    asks: Mapping[str, Any] = field(default_factory=dict)
    execute: int | None = None


STATE_KEYS = ("states", "state", "joint_state")
UNKNOWN = Benchmark("a benchmark not known here")

# State: end effector xyz, axis-angle, two finger joints. The harness turns the quaternion's sign so that the angle is
# at most pi, robosuite and with it every LIBERO data set does not: asked for here, worth 14 to 40 points of success
# to policies that see the axis-angle itself (the harness's own account). Action: gripper below 0 opens.
_LIBERO = Benchmark(
    "LIBERO",
    cameras={"agentview": ("image",), "wrist": ("wrist_image", "image2")},
    wrist="wrist",
    state="states",
    state_dim=8,
    action_dim=7,
    robot=LIBERO_COMMANDS,
    asks={"quat_no_antipodal": True},
    execute=5,
)

# SIMPLER's controller takes metres and axis-angle; the harness makes the gripper of the wanted opening, 0 closed to 1
# open. Bridge and RT-1 write changes of rotation as roll, pitch, yaw. Its state is position, quaternion wxyz and
# opening in the base frame, which each robot's data set writes in its own way.
# Bridge's angles are those of the gripper's turn away from pointing straight down, a quarter turn about y.
_BRIDGE_DOWN = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])


def bridge_state(sent: np.ndarray) -> np.ndarray:
    """[xyz, quaternion wxyz, opening] -> Bridge's [xyz, roll, pitch, yaw, opening], m and rad."""
    rotation = matrix_from_xyzw(xyzw_from_wxyz(sent[3:7]))
    return np.concatenate([sent[:3], euler_from_matrix(rotation @ _BRIDGE_DOWN.T), sent[7:]])


def fractal_state(sent: np.ndarray) -> np.ndarray:
    """[xyz, quaternion wxyz, opening] -> RT-1's [xyz, quaternion xyzw with w >= 0, closedness], m."""
    quaternion = xyzw_from_wxyz(sent[3:7])
    return np.concatenate([sent[:3], -quaternion if quaternion[3] < 0 else quaternion, 1.0 - sent[7:]])


def _simpler(name: str, recorded: Embodiment, **rest: Any) -> Benchmark:
    arm = recorded.arms["left"]
    takes = replace(arm.action, rotation=Rotation("axis_angle", [3, 4, 5]))
    return Benchmark(
        name,
        cameras={"primary": ("image", "image_0")},
        state="states",
        action_dim=7,
        robot=replace(recorded, left=replace(arm, action=takes)),
        recorded=recorded,
        execute=1,
        **rest,
    )


# CALVIN's data sets hold changes as shares of 2 cm and 0.05 rad; the harness adds metres and angles to the last target.
_CALVIN_ARM = Arm(Position([0, 1, 2]), Rotation("euler_xyz", [3, 4, 5]), Gripper(index=6, open=0.08, closed=0.0))
_CALVIN_TAKES = ArmAction(
    "delta", Position([0, 1, 2]), Rotation("euler_xyz", [3, 4, 5]), Gripper(index=6, open=1.0, closed=-1.0)
)
_CALVIN_RECORDED = replace(
    _CALVIN_TAKES, position=Position([0, 1, 2], scale=0.02), rotation=Rotation("euler_xyz", [3, 4, 5], scale=0.05)
)

# By name: a folder of the harness's benchmarks, vla_eval.benchmarks.NAME.benchmark:Class, or a kind of one.
BENCHMARKS: Mapping[str, Benchmark] = {
    "libero": _LIBERO,
    # The same arm and cameras. These two classes cannot be asked for robosuite's sign; a policy trained in the
    # unified space reads both alike.
    "libero_pro": replace(_LIBERO, name="LIBERO-Pro", asks={}),
    "libero_mem": replace(_LIBERO, name="LIBERO-Mem", asks={}),
    "libero_plus": replace(_LIBERO, name="LIBERO-Plus"),
    "robocerebra": replace(_LIBERO, name="RoboCerebra", asks={}),
    "simpler-widowx": _simpler("SIMPLER's WidowX", SIMPLER_WIDOWX, convert=bridge_state, state_dim=7),
    "simpler-google": _simpler(
        "SIMPLER's Google robot", SIMPLER_GOOGLE, convert=fractal_state, state_dim=8, asks={"gripper_mode": "sticky"}
    ),
    "calvin": Benchmark(
        "CALVIN",
        cameras={"rgb_static": ("image", "top"), "rgb_gripper": ("wrist_image", "wrist")},
        wrist="rgb_gripper",
        state="states",
        state_dim=8,
        action_dim=7,
        robot=Embodiment("calvin", left=replace(_CALVIN_ARM, action=_CALVIN_TAKES)),
        recorded=Embodiment("calvin", left=replace(_CALVIN_ARM, action=_CALVIN_RECORDED)),
    ),
    # Numbers taken as they are from here on: the policy is to be trained on this benchmark's own recordings.
    "robocasa": Benchmark("RoboCasa", state="states", state_dim=9, action_dim=7),
    "robotwin": Benchmark(
        "RoboTwin",
        cameras={"head_camera": (), "left_camera": (), "right_camera": ()},
        state="joint_state",
        action_dim=14,
    ),
    "rlbench": Benchmark("RLBench", cameras={"front": (), "wrist": ()}, state=None, action_dim=8),
    "mikasa": Benchmark("MIKASA-Robo", state=None, action_dim=8),
    "maniskill2": Benchmark("ManiSkill2", state=None, action_dim=7),
    "vlabench": Benchmark("VLABench", cameras={"primary": ()}, state=None, action_dim=7),
}
# One class, several robots: which one is not said on the wire when it would have to be known.
KINDS: Mapping[str, tuple[str, ...]] = {"simpler": ("simpler-widowx", "simpler-google")}


def folder_of(import_string: object) -> str | None:
    """The folder of the harness's benchmark a client names when it connects; None where it is not known here."""
    if not isinstance(import_string, str):
        return None
    folders = import_string.partition(":")[0].split(".")
    return next((folder for folder in folders if folder in BENCHMARKS or folder in KINDS), None)
