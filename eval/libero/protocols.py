"""How LIBERO is played: the three protocols published numbers are made with, as data.

Sources, as of 2026-11: openpi examples/libero/main.py; OpenVLA experiments/robot/libero/run_libero_eval.py at c8f03f4
(OpenVLA-OFT's at 213c5ff differs in `execute`, 8, alone); LeRobot envs/libero.py and docs/source/libero.mdx at 7427f31.
All three turn both pictures by 180 degrees, settle for 10 steps with open fingers, take pose changes relative to where
the hand is, and end an episode at its first success.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Preset = Literal["openpi", "openvla", "lerobot"]

# By suite; OpenVLA's reasons: the longest demonstrations have 193, 254, 270, 505 and 373 steps.
_MAX_STEPS = {
    "libero_spatial": 220,
    "libero_object": 280,
    "libero_goal": 300,
    "libero_10": 520,
    "libero_90": 400,
}


@dataclass(frozen=True)
class Protocol:
    """Everything that decides the number beside the policy; see the presets' comments for where each value is from.

    Attributes:
        trials: Episodes a task: initial states 0, 1, ... in their order.
        max_steps: Actions an episode has at most, by suite; settling is not counted.
        settle_steps: Steps before the policy first sees anything, fingers opening: objects start above the table.
        seed: What numpy is seeded with; it decides where fixtures stand, which initial states leave open.
        seeded: "once a task" before its first reset, so that trial k has the fixtures of the k-th reset after it;
            "every episode" with seed + trial.
        image_size: Pixels a side of each picture.
        gripper: What the policy's last value means: "-1 opens, +1 closes", LIBERO's own, or "1 opens, 0 closes", cut at
            0.5, as data sets in Open X-Embodiment's form have it.
        execute: Actions of each chunk carried out before the policy is asked again.
    """

    trials: int
    max_steps: Mapping[str, int]
    settle_steps: int
    seed: int
    seeded: Literal["once a task", "every episode"]
    image_size: int
    gripper: Literal["-1 opens, +1 closes", "1 opens, 0 closes"]
    execute: int


PROTOCOLS: Mapping[Preset, Protocol] = {
    "openpi": Protocol(
        trials=50,  # num_trials_per_task
        max_steps=_MAX_STEPS,
        settle_steps=10,  # num_steps_wait
        seed=7,  # Args.seed, given to each task's environment
        seeded="once a task",
        image_size=256,  # LIBERO_ENV_RESOLUTION; its client then resizes to 224 with padding
        gripper="-1 opens, +1 closes",
        execute=5,  # replan_steps
    ),
    "openvla": Protocol(
        trials=50,  # num_trials_per_task
        max_steps=_MAX_STEPS,
        settle_steps=10,  # num_steps_wait
        seed=0,  # get_libero_env: the environment's; the seed 7 of its configuration is the model's
        seeded="once a task",
        image_size=256,  # get_libero_env's resolution
        gripper="1 opens, 0 closes",  # normalize_gripper_action and invert_gripper_action
        execute=1,  # one action a call; OpenVLA-OFT's num_open_loop_steps is 8
    ),
    "lerobot": Protocol(
        trials=10,  # the documented eval.n_episodes
        max_steps={**_MAX_STEPS, "libero_spatial": 280},  # TASK_SUITE_MAX_STEPS
        settle_steps=10,  # num_steps_wait
        seed=1000,  # the default of lerobot-eval's seed
        seeded="every episode",  # eval_policy counts it up; LiberoEnv.reset seeds with it
        image_size=360,  # observation_height; the policy's own preprocessing resizes
        gripper="-1 opens, +1 closes",
        execute=10,  # the documented policy.n_action_steps
    ),
}
