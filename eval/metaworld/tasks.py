"""The fifty Meta-World tasks in words, and the subsets papers report."""

from dataclasses import dataclass
from difflib import get_close_matches


@dataclass(frozen=True)
class MetaWorldTask:
    """One environment and how it is talked about.

    Attributes:
        name: Meta-World environment name, `-v3`; it also names the scripted expert.
        instruction: What a person would say; the task string of the recorded data set.
        part: What the gripper goes to first, as a noun phrase; sub-task texts are made from it.
        act: What is done on contact, as an imperative; sub-task texts are made from it.
        max_decisions: Episode limit in policy decisions (each ACTION_REPEAT simulator steps): two and a half to four
            times the scripted expert's mean length, at most 160 (the environment itself ends after 500 steps).
    """

    name: str
    instruction: str
    part: str
    act: str
    max_decisions: int


# name: (instruction, part, act, limit)
_ROWS = {
    "drawer-open-v3": ("open the drawer", "drawer handle", "pull the drawer open", 80),
    "door-open-v3": ("open the door", "door handle", "pull the door open", 80),
    "faucet-open-v3": ("turn on the faucet", "faucet handle", "push the faucet handle around", 70),
    "coffee-button-v3": ("press the button of the coffee machine", "coffee button", "press the coffee button", 50),
    "button-press-topdown-v3": ("press the red button from above", "top of the button", "press the button down", 70),
    "window-open-v3": ("slide the window open", "window handle", "slide the window to the right", 80),
    "plate-slide-v3": ("slide the plate into the goal", "plate", "slide the plate forward", 60),
    "sweep-into-v3": ("sweep the block into the hole", "block", "sweep the block into the hole", 60),
    "push-v3": ("push the puck to the marked spot", "puck", "push the puck to the goal", 60),
    "handle-press-v3": ("press the handle down", "handle", "press the handle down", 50),
    "drawer-close-v3": ("close the drawer", "drawer front", "push the drawer shut", 70),
    "button-press-v3": ("press the red button from the front", "button", "push the button in", 70),
    "assembly-v3": ("put the ring on the peg", "ring's handle", "carry the ring over the peg and lower it", 90),
    "basketball-v3": (
        "put the basketball through the hoop",
        "basketball",
        "carry the ball over the hoop and drop it",
        100,
    ),
    "bin-picking-v3": ("move the cube to the other bin", "cube", "carry the cube to the other bin", 150),
    "box-close-v3": ("put the lid on the box", "lid", "carry the lid onto the box", 130),
    "button-press-topdown-wall-v3": (
        "press the button behind the wall from above",
        "top of the button behind the wall",
        "press the button behind the wall down",
        60,
    ),
    "button-press-wall-v3": (
        "press the button behind the wall from the front",
        "button behind the wall",
        "push the button behind the wall in",
        70,
    ),
    "coffee-pull-v3": ("pull the mug away from the coffee machine", "mug", "pull the mug away from the machine", 80),
    "coffee-push-v3": ("push the mug under the coffee machine", "mug", "push the mug under the spout", 60),
    "dial-turn-v3": ("turn the dial", "dial", "push the dial around", 90),
    "disassemble-v3": ("take the ring off the peg", "ring's handle", "lift the ring off the peg", 140),
    "door-close-v3": ("close the door", "door's edge", "push the door shut", 70),
    "door-lock-v3": ("lock the door", "lock's lever", "turn the lock shut", 100),
    "door-unlock-v3": ("unlock the door", "lock's lever", "turn the lock open", 50),
    "faucet-close-v3": ("turn off the faucet", "faucet handle", "push the faucet handle back", 70),
    "hammer-v3": ("hammer the nail into the wall", "hammer", "swing the hammer onto the nail", 70),
    "hand-insert-v3": ("put the block into the hole in the table", "block", "lower the block into the hole", 60),
    "handle-press-side-v3": (
        "press the handle at the side down",
        "handle at the side",
        "press the handle at the side down",
        50,
    ),
    "handle-pull-v3": ("pull the handle up", "handle", "pull the handle up", 110),
    "handle-pull-side-v3": (
        "pull the handle at the side up",
        "handle at the side",
        "pull the handle at the side up",
        160,
    ),
    "lever-pull-v3": ("lift the lever", "lever", "push the lever up", 90),
    "peg-insert-side-v3": ("insert the peg into the hole at the side", "peg", "push the peg into the hole", 120),
    "peg-unplug-side-v3": ("pull the peg out of the hole at the side", "peg", "pull the peg out", 160),
    "pick-out-of-hole-v3": ("take the puck out of the hole", "puck", "lift the puck out of the hole", 130),
    "pick-place-v3": ("pick up the puck and hold it at the marked spot", "puck", "carry the puck to the goal", 60),
    "pick-place-wall-v3": (
        "carry the puck over the wall to the marked spot",
        "puck",
        "carry the puck over the wall",
        100,
    ),
    "plate-slide-side-v3": ("slide the plate sideways into the goal", "plate", "slide the plate sideways", 50),
    "plate-slide-back-v3": ("slide the plate back out of the goal", "plate", "slide the plate back", 60),
    "plate-slide-back-side-v3": (
        "slide the plate sideways out of the goal",
        "plate",
        "slide the plate sideways and out",
        50,
    ),
    "push-back-v3": ("pull the puck back to the marked spot", "puck", "pull the puck back", 160),
    "push-wall-v3": ("push the puck around the wall to the marked spot", "puck", "push the puck around the wall", 80),
    "reach-v3": ("move the hand to the marked spot", "marked spot", "hold the hand at the goal", 50),
    "reach-wall-v3": (
        "move the hand over the wall to the marked spot",
        "marked spot behind the wall",
        "hold the hand at the goal behind the wall",
        50,
    ),
    "shelf-place-v3": ("put the block on the shelf", "block", "carry the block onto the shelf", 100),
    "soccer-v3": ("push the ball into the goal", "ball", "push the ball into the net", 90),
    "stick-pull-v3": ("pull the thermos with the stick", "stick", "pull the thermos by its handle", 150),
    "stick-push-v3": ("push the thermos with the stick", "stick", "push the thermos along", 80),
    "sweep-v3": ("sweep the block off the table", "block", "sweep the block off the table", 90),
    "window-close-v3": ("slide the window closed", "window handle", "slide the window to the left", 90),
}

METAWORLD_TASKS = {name: MetaWorldTask(name, *row) for name, row in _ROWS.items()}
"""All of MT50, by name."""

SUBSETS: dict[str, tuple[str, ...]] = {
    # Meta-World's own ten (Yu et al. 2019, "Meta-World"), in its order.
    "mt10": (
        "reach-v3",
        "push-v3",
        "pick-place-v3",
        "door-open-v3",
        "drawer-open-v3",
        "drawer-close-v3",
        "button-press-topdown-v3",
        "peg-insert-side-v3",
        "window-open-v3",
        "window-close-v3",
    ),
    "mt50": tuple(sorted(METAWORLD_TASKS)),
    # The four on which CLAM (Liang et al. 2025) reports.
    "clam": ("assembly-v3", "bin-picking-v3", "peg-insert-side-v3", "shelf-place-v3"),
}


def metaworld_task(name: str) -> MetaWorldTask:
    """The row of the task called `name`.

    Raises:
        ValueError: there is no such row; the message offers the nearest names.
    """
    if task := METAWORLD_TASKS.get(name):
        return task
    near = get_close_matches(name, METAWORLD_TASKS, n=3, cutoff=0.3)
    raise ValueError(
        f"tasks: unknown Meta-World task {name!r}; did you mean {near or sorted(METAWORLD_TASKS)}? "
        "The table is in eval/metaworld/tasks.py."
    )
