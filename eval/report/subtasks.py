"""Sub-task sentences the student wrote on unseen frames, beside the true ones."""

import difflib
from typing import Any

import numpy as np
from markupsafe import Markup

from eval.report.markup import fill, join, missing, section, share
from eval.report.media import picture
from eval.report.run_folder import Run, Step

_CARDS = 8


def subtasks_section(run: Run) -> Markup:
    """Cards of the first distillation that has them, and every distillation's held-out token accuracy."""
    title = "Sub-tasks in words"
    accuracy = _accuracy(run)
    for step in run.of_kind("distill"):
        rows = run.json(step.folder / "subtasks.json")
        usable = [r for r in rows if isinstance(r, dict) and "generated" in r] if isinstance(rows, list) else []
        if usable:
            return section("subtasks", title, accuracy, _cards(run, step, usable), note=_note(step, usable))
    absent = missing(run.absence("generated sub-task sentences", "distill"))
    return section("subtasks", title, accuracy, absent)


def _note(step: Step, rows: list[dict[str, Any]]) -> str:
    same = sum(str(r["generated"]).strip() == str(r.get("true", "")).strip() for r in rows)
    shown = f" The first {_CARDS} are shown." if len(rows) > _CARDS else ""
    exact = f"{same} of {len(rows)} are the true sentence to the letter."
    return f"Written by “{step.title}” on frames it never saw: {exact}{shown}"


def _accuracy(run: Run) -> Markup:
    found = []
    for step in run.of_kind("distill"):
        values = run.json(step.folder / "heldout.json")
        if isinstance(values, dict) and isinstance(values.get("token_accuracy"), int | float):
            found.append(fill("{t} <b>{a}</b>", t=step.title, a=share(values["token_accuracy"], 3)))
    if not found:
        return missing(run.absence("held-out token accuracies", "distill"))
    return fill('<p class="reading">Token accuracy on held-out frames: {f}.</p>', f=join(found, "; "))


def _cards(run: Run, step: Step, rows: list[dict[str, Any]]) -> Markup:
    arrays = run.arrays(step.folder / "subtask_frames.npz") or {}
    frames = next((a for a in arrays.values() if a.ndim == 4 and a.shape[-1] == 3), None)
    lacking = Markup() if frames is not None else missing(f"No frames: {step.name}/subtask_frames.npz is not there.")
    cards = join(_card(row, frames, index) for index, row in enumerate(rows[:_CARDS]))
    return fill('{l}<div class="cards">{c}</div>', l=lacking, c=cards)


def _card(row: dict[str, Any], frames: np.ndarray | None, index: int) -> Markup:
    at = row.get("image", index)
    there = frames is not None and isinstance(at, int) and 0 <= at < len(frames)
    image = picture(frames[at], "the frame") if there and frames is not None else Markup()
    generated, true = str(row["generated"]), str(row.get("true", ""))
    same = generated.strip() == true.strip()
    return fill(
        '<div class="card {k}">{i}<div><p class="instruction">“{ins}”</p><p><em>written</em> {g}</p>'
        "<p><em>true</em> {t}</p></div></div>",
        k="same" if same else "differs",
        i=image,
        ins=row.get("instruction", ""),
        g=_marked(generated, true),
        t=true,
    )


def _marked(generated: str, true: str) -> Markup:
    """The generated sentence with the words that the true one does not have at that place marked."""
    words = generated.split()
    blocks = difflib.SequenceMatcher(a=words, b=true.split(), autojunk=False).get_opcodes()
    pieces = [
        fill("{w}" if kind == "equal" else "<mark>{w}</mark>", w=" ".join(words[start:end]))
        for kind, start, end, _, _ in blocks
        if end > start
    ]
    return join(pieces, " ")
