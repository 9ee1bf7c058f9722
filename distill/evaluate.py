"""How well a distilled student reads unseen frames: what the report shows of stage 2."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from data_mixtures.batch import Batch
from distill.stage import DistillStage
from vla.models.pi05.generate import generate_text
from vla.models.pi05.model import Pi05
from vla.models.pi05.processor import Processor


@dataclass(frozen=True)
class HeldOut:
    """Figures over held-out windows.

    explained_variance: share of the latents' variance over all windows; token_accuracy: share of sub-task tokens
    predicted right given the true earlier ones; sentence_accuracy: share of sub-tasks generated word for word.
    """

    explained_variance: float
    token_accuracy: float
    sentence_accuracy: float


@torch.inference_mode()
def evaluate(module: Pi05, stage: DistillStage, batches: Iterable[Batch]) -> HeldOut:
    """Evaluate over batches that have latents and sub-tasks; samples without a sub-task count for the latents only."""
    module.eval()
    predicted, target, right, sentences = [], [], [], []
    for batch in batches:
        prefix = stage.processor.prefix(batch, "subtask")
        text, labels, mask = stage.processor.subtasks(batch)
        out = module(prefix, read_latents=True, text=text)
        predicted.append(out["latents"].flatten(1))
        target.append(stage.targets(batch).flatten(1))
        right.append((out["text_logits"].argmax(-1) == labels)[mask])
        pairs = zip(generate_subtasks(module, stage.processor, batch), batch.subtask, strict=True)
        sentences += [said == truth for said, truth in pairs if truth]
    z = torch.cat(target).double()
    residual = (torch.cat(predicted).double() - z).square().sum()
    return HeldOut(
        explained_variance=float(1 - residual / (z - z.mean(0)).square().sum().clamp(min=1e-12)),
        token_accuracy=float(torch.cat(right).float().mean()) if sentences else float("nan"),
        sentence_accuracy=sum(sentences) / len(sentences) if sentences else float("nan"),
    )


@torch.inference_mode()
def generate_subtasks(module: Pi05, processor: Processor, batch: Batch, max_tokens: int = 32) -> list[str]:
    """The sub-task the student names for each sample, by greedy decoding."""
    rows = generate_text(module, processor.prefix(batch, "subtask"), max_tokens)
    return [processor.tokenizer.decode(row) for row in rows]
