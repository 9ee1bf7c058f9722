"""Sub-task sentences the student wrote on unseen frames, beside the true ones."""

import difflib
from typing import Any

import numpy as np
from markupsafe import Markup

from eval.report.markup import fill, join, missing, number, section, table
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
    """The figures of heldout.json, a column for each student."""
    read = [(step, run.json(step.folder / "heldout.json")) for step in run.of_kind("distill")]
    found = [(step, values) for step, values in read if isinstance(values, dict) and values]
    if not found:
        return missing(run.absence("held-out token accuracies", "distill"))
    names = sorted(dict.fromkeys(n for _, v in found for n in v), key=lambda n: (n not in _MEANING, _ORDER.get(n, 0)))
    rows = [[_label(n), *(_shown(v.get(n)) for _, v in found)] for n in names]
    return table(["On held-out frames", *(step.title for step, _ in found)], rows, "plain")


_MEANING = {
    "token_accuracy": ("Token accuracy", "share of sub-task tokens right, given the true earlier ones"),
    "sentence_accuracy": ("Sentence accuracy", "share of sub-tasks written word for word"),
    "explained_variance": ("Explained variance", "of the teacher’s latents, from the first frame alone"),
}
_ORDER = {name: place for place, name in enumerate(_MEANING)}


def _label(name: str) -> Markup:
    label, meaning = _MEANING.get(name, (name.replace("_", " "), ""))
    return fill("{l}<small>{m}</small>", l=label, m=meaning)


def _shown(value: Any) -> str:
    return "–" if value is None or value != value else number(value)


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
