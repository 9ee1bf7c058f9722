"""What the model reads: pi0.5's prompt with the discretised state, and the sub-task prompt of stage 2."""

import torch
from torch import Tensor

NUM_STATE_BINS = 256
# Left edges of 256 equal bins over [-1, 1], in float64 as numpy.digitize compares them.
_LEFT_EDGES = torch.linspace(-1.0, 1.0, NUM_STATE_BINS + 1, dtype=torch.float64)[:-1]


def discretise_state(state: Tensor) -> Tensor:
    """Normalised state [...] -> bins int64 [...] in -1..255: below -1 gives -1, 0 gives 128, 1 and above give 255."""
    edges = _LEFT_EDGES.to(state.device)
    return torch.bucketize(state.to(torch.float64).contiguous(), edges, right=True) - 1


def clean_instruction(instruction: str) -> str:
    """The instruction as it stands in a prompt: stripped, underscores and newlines as spaces."""
    return instruction.strip().replace("_", " ").replace("\n", " ")


def action_prompt(instruction: str, bins: list[int] | None) -> str:
    r"""`Task: {instruction}, State: {bins};\nAction: `; without `bins`, the state clause is left out."""
    state = "" if bins is None else ", State: " + " ".join(map(str, bins))
    return f"Task: {clean_instruction(instruction)}{state};\nAction: "


def subtask_prompt(instruction: str) -> str:
    r"""`Task: {instruction};\nSubtask: `, which the sub-task's text follows."""
    return f"Task: {clean_instruction(instruction)};\nSubtask: "
