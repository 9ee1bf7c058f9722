"""What the report shows of stage 2: figures and sentences on windows the student never saw."""

from pathlib import Path

import numpy as np
import torch

from data_mixtures.mixture import Mixture
from distill.evaluate import evaluate, generate_subtasks
from distill.stage import DistillStage
from vla.models.pi05.model import Pi05
from vla.train.checkpoint import write_json
from vla.train.export import load_weights


def write_heldout(
    stage: DistillStage, mixture: Mixture, run: Path, num_windows: int = 1024, num_shown: int = 12
) -> None:
    """Evaluate the trained student in `run/model`; write heldout.json, subtasks.json and subtask_frames.npz.

    Args:
        stage: The stage it was trained with.
        mixture: Held-out windows with latents and sub-tasks; `num_windows` spread evenly over them are read.
        run: The stage-2 run folder.
        num_windows: Windows the figures are over.
        num_shown: Windows whose frames and sentences are kept.
    """
    with torch.device("meta"):
        module = Pi05(stage.processor.model)
    load_weights(module, run / "model", "cpu")
    rows = mixture.spread(num_windows)
    parts = np.array_split(rows, max(1, len(rows) // 64))
    figures = evaluate(module, stage, (mixture.batch_at(part.tolist()) for part in parts))
    shown = mixture.batch_at(rows[np.linspace(0, len(rows) - 1, num_shown + 2).round().astype(int)[1:-1]].tolist())
    said = generate_subtasks(module, stage.processor, shown)
    sentences = [
        {"instruction": instruction, "true": true, "generated": generated, "image": index}
        for index, (instruction, true, generated) in enumerate(zip(shown.instruction, shown.subtask, said, strict=True))
    ]
    np.savez(run / "subtask_frames.npz", frames=shown.images[:, 0, 0].permute(0, 2, 3, 1).numpy())
    write_json(run / "subtasks.json", sentences)
    write_json(run / "heldout.json", {"windows": len(rows), **vars(figures)})
