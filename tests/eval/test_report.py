"""The report: every number it shows, its claims, its gaps, and that data cannot break out of it."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from eval.intervals import wilson_interval
from eval.report import page, write_report
from eval.report.differences import difference, newcombe_paired
from eval.report.markup import interval, share, signed
from eval.report.results import facets, read_rollouts, tally
from eval.report.run_folder import read_run
from eval.report.verdict import headline, verdict

TASKS = ("button-press", "drawer-open", "faucet-open", "plate-slide")
RATES = {"distilled": 0.72, "scratch": 0.42, "bc": 0.55, "pca": 0.68, "expert": 0.98, "random": 0.02}
GOOD_HEALTH = {
    "reconstruction_ratio_one_step": 0.47,
    "reconstruction_ratio_sampled": 0.52,
    "effective_rank_scene": 6.2,
    "effective_rank_motion": 8.9,
    "probe_r2_scene": 0.402,
    "probe_r2_motion": 0.613,
    "swap_moves_robot": True,
}


# ------------------------------------------------------------------------------------------ a run made up for the tests


def write_run(root: Path, demos: tuple[int, ...] = (2, 5), seeds: tuple[int, ...] = (0, 1, 2), episodes: int = 20) -> Path:
    """A whole pipeline's folder with made-up numbers, the same for the same arguments."""
    draw = np.random.default_rng(0)
    templates = [
        {"name": "record", "title": "Record demonstrations", "needs": []},
        {"name": "lam-s{seed}", "title": "Teacher, seed {seed}", "needs": ["record"]},
        {"name": "label-s{seed}", "title": "Label, seed {seed}", "needs": ["lam-s{seed}"]},
        {"name": "distill-s{seed}", "title": "Distil, seed {seed}", "needs": ["label-s{seed}"]},
    ]
    for arm in ("distilled", "scratch", "bc", "pca"):
        name = f"finetune-{arm}-d{{demos}}-s{{seed}}"
        title = f"Fine-tune {arm}, {{demos}} demos, seed {{seed}}"
        templates.append({"name": name, "title": title, "needs": ["distill-s{seed}"]})
        name = f"rollout-{arm}-d{{demos}}-s{{seed}}"
        templates.append({"name": name, "title": name, "needs": [f"finetune-{arm}-d{{demos}}-s{{seed}}"]})
    for arm in ("expert", "random"):
        templates.append({"name": f"rollout-{arm}", "title": f"Roll out {arm}", "needs": ["record"]})
    steps = []
    for template in templates:
        for d in demos if "{demos}" in template["name"] else (None,):
            for s in seeds if "{seed}" in template["name"] else (None,):
                filled = {k: v.format(seed=s, demos=d) for k, v in template.items() if isinstance(v, str)}
                kind = template["name"].split("-")[0]
                steps.append({**filled, "kind": kind, "folder": filled["name"], "needs": []})
                _write_step(root / filled["name"], kind, filled["name"], d, s, draw, episodes)
    steps.append({"name": "report", "kind": "report", "title": "Report", "folder": "report", "needs": []})
    (root / "pipeline.json").write_text(json.dumps({"recipe": "recipes/demo/pipeline.yaml", "steps": steps}))
    recipe = {"stage": "pipeline", "steps": templates, "seeds": list(seeds), "demos": list(demos)}
    (root / "recipe.yaml").write_text(json.dumps(recipe, indent=1))
    return root


def _write_step(
    folder: Path, kind: str, name: str, demos: int | None, seed: int | None, draw: np.random.Generator, episodes: int
) -> None:
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(f"stage: {kind}\nrun: runs/demo/{name}\noptim:\n  lr: 0.001\n")
    versions = {"code": "v0.1-3-gabc", "python": "3.11.9", "packages": {"torch": "2.13.0", "deepspeed": None}}
    (folder / "versions.json").write_text(json.dumps(versions))
    done = {"wall_seconds": 20 + 300 * draw.random(), "peak_memory_bytes": int(2**30 * (0.6 + draw.random()))}
    (folder / "done.json").write_text(json.dumps({**done, "data_wait_share": 0.04 * draw.random(), "skipped_steps": 0}))
    terms = {"lam": ("reconstruction", "actions"), "distill": ("mse", "kl", "text"), "finetune": ()}.get(kind)
    if terms is not None:
        _write_metrics(folder, terms, draw)
    if kind == "lam":
        (folder / "health.json").write_text(json.dumps(GOOD_HEALTH))
        np.savez(folder / "pictures.npz", **_pictures(9))  # type: ignore[arg-type]
    if kind == "distill":
        _write_subtasks(folder)
    if kind == "rollout":
        _write_rollouts(folder, name.split("-")[1], demos, seed, draw, episodes)


def _write_metrics(folder: Path, terms: tuple[str, ...], draw: np.random.Generator) -> None:
    with (folder / "metrics.jsonl").open("w") as file:
        for step in range(1, 401):
            values = {t: (0.2 + np.exp(-step / 60)) * float(np.exp(0.15 * draw.normal())) for t in terms}
            loss = sum(values.values()) or (0.03 + np.exp(-step / 50)) * float(np.exp(0.2 * draw.normal()))
            row = {"step": step, "loss": loss, **values, "lr": 1e-3, "grad_norm": 1.0, "samples_per_s": 240.0}
            file.write(json.dumps({**row, "data_wait_share": 0.01, "seconds": 0.13 * step}) + "\n")


def _pictures(count: int, side: int = 64) -> dict[str, np.ndarray]:
    """A table, a block and an arm that reaches it; the prediction is the truth blurred a little."""
    frames = {name: np.zeros((count, side, side, 3), np.uint8) for name in ("current", "predicted", "true")}
    grid = np.stack(np.meshgrid(np.arange(side), np.arange(side), indexing="ij"), -1)
    for i in range(count):
        for name, at in (("current", 14), ("predicted", 34 + i), ("true", 36 + i)):
            frames[name][i] = scene(grid, at, blur=3.0 if name == "predicted" else 1.0)
    return {**frames, "captions": np.array([f"{TASKS[i % 4]}, frame {10 * i}" for i in range(count)])}


def scene(grid: np.ndarray, at: float, blur: float) -> np.ndarray:
    """One made-up frame: a floor, a block and a gripper at height `at`."""
    side = len(grid)
    image = np.broadcast_to(np.array([196, 178, 150.0]), (side, side, 3)).copy()
    image[: side // 3] = (148, 160, 172)
    for centre, radius, colour in (((46, 40), 8, (188, 52, 44)), ((at, 40), 6, (40, 44, 52)), ((at - 12, 40), 5, (90, 96, 108))):
        near = 1 / (1 + np.exp((np.linalg.norm(grid - np.array(centre), axis=-1) - radius) / blur * 2))[..., None]
        image = image * (1 - near) + np.array(colour) * near
    return image.astype(np.uint8)


def _write_subtasks(folder: Path) -> None:
    pairs = [("reach the button", "reach the button"), ("press the button", "press the handle"), ("<b>close</b>", "close it")]
    rows = [{"instruction": f"do task {i}", "true": t, "generated": g, "image": i} for i, (g, t) in enumerate(pairs)]
    (folder / "subtasks.json").write_text(json.dumps(rows))
    np.savez(folder / "subtask_frames.npz", frames=_pictures(3)["true"])
    (folder / "heldout.json").write_text(json.dumps({"token_accuracy": 0.934}))


def _write_rollouts(
    folder: Path, arm: str, demos: int | None, seed: int | None, draw: np.random.Generator, episodes: int
) -> None:
    rate = min(RATES[arm] + (0.1 if demos == 5 else 0.0), 1.0)
    rows = []
    for t, task in enumerate(TASKS):
        for episode in range(episodes):
            success = bool(draw.random() < np.clip(rate + 0.06 * (t - 1.5), 0, 1))
            film = f"videos/{task}-{episode}.mp4" if episode < 4 and demos in (None, 2) and not seed else None
            if film:
                write_video(folder / film, success)
            final = success and draw.random() > 0.1
            row = {"suite": "metaworld", "task": task, "seed": 1000 + episode, "success_any": success}
            row |= {"success_final": final, "steps": 40 if success else 100, "policy": arm, "demos": demos}
            rows.append({**row, "train_seed": seed, "video": film})
    (folder / "results.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))


_FILMS: dict[bool, bytes] = {}


def write_video(path: Path, success: bool) -> None:
    """A 96 px H.264 film of the gripper reaching the block, or stopping short of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if success not in _FILMS:
        grid = np.stack(np.meshgrid(np.arange(96), np.arange(96), indexing="ij"), -1)
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=10, options={"crf": "24"})
            stream.width = stream.height = 96
            stream.pix_fmt = "yuv420p"
            for i in range(20):
                at = 10 + i * (1.6 if success else 0.7)
                frame = av.VideoFrame.from_ndarray(scene(grid, at, 1.0), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        _FILMS[success] = path.read_bytes()
    path.write_bytes(_FILMS[success])
