"""The Meta-World tasks this repository records and rolls out, in words."""

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
        max_decisions: Episode limit in policy decisions (each ACTION_REPEAT simulator steps); two and a
            half to four times the scripted expert's mean length.
    """

    name: str
    instruction: str
    part: str
    act: str
    max_decisions: int


METAWORLD_TASKS = {
    task.name: task
    for task in (
        MetaWorldTask("drawer-open-v3", "open the drawer", "drawer handle", "pull the drawer open", 80),
        MetaWorldTask("door-open-v3", "open the door", "door handle", "pull the door open", 80),
        MetaWorldTask("faucet-open-v3", "turn on the faucet", "faucet handle", "push the faucet handle around", 70),
        MetaWorldTask(
            "coffee-button-v3", "press the button of the coffee machine", "coffee button", "press the coffee button", 50
        ),
        MetaWorldTask(
            "button-press-topdown-v3",
            "press the red button from above",
            "top of the button",
            "press the button down",
            70,
        ),
        MetaWorldTask("window-open-v3", "slide the window open", "window handle", "slide the window to the right", 80),
        MetaWorldTask("plate-slide-v3", "slide the plate into the goal", "plate", "slide the plate forward", 60),
        MetaWorldTask("sweep-into-v3", "sweep the block into the hole", "block", "sweep the block into the hole", 60),
        MetaWorldTask("push-v3", "push the puck to the marked spot", "puck", "push the puck to the goal", 60),
        MetaWorldTask("handle-press-v3", "press the handle down", "handle", "press the handle down", 50),
        MetaWorldTask("drawer-close-v3", "close the drawer", "drawer front", "push the drawer shut", 70),
        MetaWorldTask("button-press-v3", "press the red button from the front", "button", "push the button in", 70),
    )
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
        "The table is in eval/metaworld_tasks.py."
    )
