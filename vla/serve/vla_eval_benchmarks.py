"""What the benchmarks of the public evaluation harness send and take, as data: cameras, state, actions, requests.

Every benchmark sends {"images": {camera: picture}, "task_description": text, ...}; only the names differ, and what
the numbers mean. A client says at its start which benchmark it plays, by the class it imports.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Benchmark:
    """One benchmark's side of the wire.

    Attributes:
        name: What it is called in words.
        cameras: Each camera it can send -> names our data sets know it by. Empty: not known, any name goes.
        wrist: The camera it sends only where asked to.
        state: The key of its state; None where it sends none. "" where not known: `STATE_KEYS` are looked for.
        state_dim: Numbers of that state, 0 where not known.
        action_dim: Numbers of an action, 0 where not known.
        robot_type: The row of `data_mixtures.spaces.embodiments.EMBODIMENTS` whose columns these are.
        asks: What the benchmark is asked for beside `send_state` and `send_wrist_image`, which every one understands
            that can send them: parameters of its class.
        execute: Actions of each chunk that its protocol carries out before the policy is asked again.
    """

    name: str
    cameras: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    wrist: str | None = None
    state: str | None = ""
    state_dim: int = 0
    action_dim: int = 0
    robot_type: str | None = None
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
    robot_type="libero_commands",
    asks={"quat_no_antipodal": True},
    execute=5,
)

# By the folder of the class: vla_eval.benchmarks.FOLDER.benchmark:Class.
BENCHMARKS: Mapping[str, Benchmark] = {
    "libero": _LIBERO,
}


def benchmark_of(import_string: object) -> Benchmark:
    """The benchmark a client names when it connects, or `UNKNOWN`."""
    if not isinstance(import_string, str):
        return UNKNOWN
    folders = import_string.partition(":")[0].split(".")
    return next((BENCHMARKS[folder] for folder in folders if folder in BENCHMARKS), UNKNOWN)
