"""The report: every number it shows, its claims, its gaps, and that data cannot break out of it."""

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from eval.intervals import wilson_interval
from eval.report import write_report
from eval.report.markup import duration, interval, number, share, size
from eval.report.results import read_rollouts
from eval.report.run_folder import read_run

TASKS = ("button-press", "drawer-open", "faucet-open", "plate-slide")
RATES = {"distilled": 0.72, "scratch": 0.42, "bc": 0.55, "pca": 0.68, "expert": 0.98, "random": 0.02}
LABELS = {
    "distilled": "Distilled",
    "scratch": "From scratch",
    "bc": "Behaviour cloning",
    "pca": "PCA control",
    "expert": "Scripted expert",
    "random": "Random policy",
}
HEALTH = {
    "reconstruction_ratio_one_step": 0.47,
    "reconstruction_ratio_sampled": 0.52,
    "effective_rank_scene": 6.2,
    "effective_rank_motion": 8.9,
    "probe_r2_scene": 0.402,
    "probe_r2_motion": 0.613,
    "swap_moves_robot": True,
}


# ------------------------------------------------------------------------------------------ a run made up for the tests


def write_run(
    root: Path, demos: tuple[int, ...] = (2, 5), seeds: tuple[int, ...] = (0, 1, 2), episodes: int = 20
) -> Path:
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
    templates += [{"name": f"rollout-{a}", "title": f"Roll out {a}", "needs": ["record"]} for a in ("expert", "random")]
    steps = []
    for template in templates:
        for d in demos if "{demos}" in template["name"] else (None,):
            for s in seeds if "{seed}" in template["name"] else (None,):
                filled = {k: v.format(seed=s, demos=d) for k, v in template.items() if isinstance(v, str)}
                kind = template["name"].split("-")[0]
                axes = {k: v for k, v in (("seed", s), ("demos", d)) if v is not None}
                named = {"template": template["name"], "group": template["title"].replace("{demos}", str(d))}
                steps.append({**filled, **named, "axes": axes, "kind": kind, "folder": filled["name"], "needs": []})
                _write_step(root / filled["name"], kind, filled["name"], d, s, draw, episodes)
    steps.append({"name": "report", "kind": "report", "title": "Report", "folder": "report", "needs": []})
    (root / "pipeline.json").write_text(json.dumps({"recipe": "recipes/demo/pipeline.yaml", "steps": steps}))
    recipe = {"stage": "pipeline", "steps": templates, "axes": {"seed": list(seeds), "demos": list(demos)}}
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
        (folder / "health.json").write_text(json.dumps(HEALTH))
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
    block, finger, hand = ((46, 40), 8, (188, 52, 44)), ((at, 40), 6, (40, 44, 52)), ((at - 12, 40), 5, (90, 96, 108))
    for centre, radius, colour in (block, finger, hand):
        near = 1 / (1 + np.exp((np.linalg.norm(grid - np.array(centre), axis=-1) - radius) / blur * 2))[..., None]
        image = image * (1 - near) + np.array(colour) * near
    return image.astype(np.uint8)


def _write_subtasks(folder: Path) -> None:
    pairs = [("reach the button", "reach the button"), ("press the button", "press the handle"), ("shut it", "shut it")]
    rows = [{"instruction": f"do task {i}", "true": t, "generated": g, "image": i} for i, (g, t) in enumerate(pairs)]
    (folder / "subtasks.json").write_text(json.dumps(rows))
    np.savez(folder / "subtask_frames.npz", frames=_pictures(3)["true"])
    (folder / "heldout.json").write_text(json.dumps({"explained_variance": 0.71, "token_accuracy": 0.934}))


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
            row = {"suite": "metaworld", "task": task, "init": episode, "seed": 7, "success_any": success}
            row |= {"success_final": final, "steps": 40 if success else 100, "policy": arm}
            rows.append({**row, "labels": {"demos": demos, "train_seed": seed}, "video": film})
    (folder / "episodes.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))


_FILMS: dict[bool, bytes] = {}


def write_video(path: Path, success: bool) -> None:
    """A 96 px H.264 film of the gripper reaching the block, or stopping short of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if success not in _FILMS:
        grid = np.stack(np.meshgrid(np.arange(96), np.arange(96), indexing="ij"), -1)
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=10, options={"crf": "24"})
            assert isinstance(stream, av.VideoStream)
            stream.width = stream.height = 96
            stream.pix_fmt = "yuv420p"
            for i in range(20):
                at = 10 + i * (1.6 if success else 0.7)
                frame = av.VideoFrame.from_ndarray(scene(grid, at, 1.0), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        _FILMS[success] = path.read_bytes()
    path.write_bytes(_FILMS[success])


# --------------------------------------------------------------------------------------------------- reading it again


VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """The page as a browser's parser would take it: balanced tags, attributes, texts and tables."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.stack: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.feed(html)
        self.close()
        assert self.stack == [], f"not closed: {self.stack}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if self.stack and self.stack[-1] not in ("style", "script"):
            self.texts.append(data)
        if "td" in self.stack or ("th" in self.stack and "table" in self.stack):
            self.tables[-1][-1][-1] += f" {data}"

    @property
    def text(self) -> str:
        """All visible text, white space collapsed."""
        return " ".join(" ".join(self.texts).split())

    def count(self, tag: str) -> int:
        """How many elements of that name."""
        return sum(name == tag for name, _ in self.tags)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "demo", seeds=(0, 1), episodes=6)


@pytest.fixture(scope="module")
def html(run: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_report(run, tmp_path_factory.mktemp("out") / "report.html").read_text()


@pytest.fixture(scope="module")
def read(html: str) -> Page:
    return Page(html)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A run small enough to write again in every test."""
    return write_run(tmp_path / "small", demos=(2,), seeds=(0,), episodes=3)


def rows_of(run: Path) -> list[dict[str, Any]]:
    lines = [line for path in sorted(run.glob("rollout-*/episodes.jsonl")) for line in path.read_text().splitlines()]
    return [json.loads(line) for line in lines]


def again(run: Path) -> Page:
    return Page(write_report(run, run.parent / "again.html").read_text())


# ----------------------------------------------------------------------------------------------------- the page itself


def test_everything_is_in_the_one_file(html: str, read: Page) -> None:
    assert "http:" not in html
    assert "https:" not in html
    assert "url(" not in html.replace("url(#", "")
    for tag, attributes in read.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base")
        for name in ("src", "href", "xlink:href", "poster", "data"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), (tag, name)
    anchors = {a["href"] for t, a in read.tags if t == "a"}
    assert anchors == {f"#{a['id']}" for t, a in read.tags if t == "section"}


def test_the_same_folder_gives_the_same_bytes(run: Path, html: str, tmp_path: Path) -> None:
    assert write_report(run, tmp_path / "second.html").read_text() == html
    assert [p.name for p in tmp_path.iterdir()] == ["second.html"]  # nothing written aside stays behind


def test_every_figure_of_success_is_the_input_s(run: Path, read: Page) -> None:
    rows = rows_of(run)
    for table, demos in zip(read.tables[:2], (2, 5), strict=True):
        assert [cell.strip() for cell in table[0][1 : 1 + len(TASKS)]] == list(TASKS)
        for line, arm in zip(table[1:], LABELS, strict=True):
            assert line[0].strip().startswith(LABELS[arm])
            mine = [r for r in rows if r["policy"] == arm and r["labels"]["demos"] in (demos, None)]
            expected = [counts([r["success_any"] for r in mine if r["task"] == t]) for t in TASKS]
            expected += [counts([r["success_any"] for r in mine]), counts([r["success_final"] for r in mine])]
            assert [" ".join(c.split()) for c in line[1 : 3 + len(TASKS)]] == expected


def counts(outcomes: list[bool]) -> str:
    low, high = wilson_interval(sum(outcomes), len(outcomes))
    return f"{share(sum(outcomes) / len(outcomes))} {interval(low, high)} {sum(outcomes)}/{len(outcomes)}"


def test_the_strips_stand_where_the_numbers_say(run: Path, read: Page) -> None:
    rows = [r for r in rows_of(run) if r["policy"] == "distilled" and r["labels"]["demos"] == 2]
    won, low_high = sum(r["success_any"] for r in rows), wilson_interval(sum(r["success_any"] for r in rows), len(rows))
    first = next(i for i, (t, a) in enumerate(read.tags) if t == "svg" and a["class"] == "strip method")
    drawn = [a for _, a in read.tags[first + 1 : first + 12]]
    bar = next(a for a in drawn if a.get("class") == "bar")
    dot = next(a for a in drawn if a.get("class") == "dot")
    assert (bar["x1"], bar["x2"]) == tuple(f"{100 * e:.2f}%" for e in low_high)
    assert dot["cx"] == f"{100 * won / len(rows):.2f}%"
    assert sum(a.get("class") == "seed" for a in drawn) == 2


def test_latents_sub_tasks_and_costs_are_the_input_s(run: Path, read: Page) -> None:
    for text in ("6.2, 6.2", "8.9, 8.9", ".402, .402", ".613, .613"):
        assert text in read.text
    assert "Reconstruction beats copying the current frame (.47, .47 of its error)." in read.text
    assert "Motion tokens predict the true actions better than scene tokens in 2 of 2 teachers" in read.text
    assert "given the true earlier ones .934 .934" in read.text
    assert "from the first frame alone .71 .71" in read.text
    assert "2 of 3 are the true sentence to the letter" in read.text
    assert [t for t in read.tags if t[0] == "mark"] != []
    done = [(p.parent.name, json.loads(p.read_text())) for p in run.glob("*/done.json")]
    every = next(t for t in read.tables if len(t) == len(done) + 1)
    for name, cost in done:
        line = next(line for line in every if line[0].endswith(f" · {name}"))
        assert line[1].strip() == duration(cost["wall_seconds"])
        assert line[3].strip() == size(cost["peak_memory_bytes"])
        assert line[4].strip() == f"{100 * cost['data_wait_share']:.1f} %"
    total = sum(cost["wall_seconds"] for name, cost in done if name.startswith("lam"))
    assert any(
        line[0].split() == ["lam", "2", "steps"] and line[1].strip() == duration(total)
        for t in read.tables
        for line in t
    )


def test_curves_group_the_seeds_and_end_where_the_logs_end(run: Path, read: Page) -> None:
    ends = [json.loads((run / f"lam-s{s}/metrics.jsonl").read_text().splitlines()[-1])["loss"] for s in (0, 1)]
    assert f"loss {number(ends[0])}, {number(ends[1])}" in read.text
    assert "Training seeds 0, 1; 400 steps." in read.text
    assert "Fine-tune pca, 5 demos" in read.text
    assert "Fine-tune pca, 5 demos, seed" not in read.text.split("What it cost")[0]
    assert sum(a.get("class") == "curves" for t, a in read.tags if t == "svg") == 3 + 4 + 8


def test_videos_of_both_outcomes_are_shown(read: Page) -> None:
    labels = [a["aria-label"] or "" for t, a in read.tags if t == "video"]
    assert sum(label.endswith("not solved") for label in labels) >= 8
    assert sum(label.endswith(", solved") for label in labels) >= 8
    assert all((a["src"] or "").startswith("data:video/mp4;base64,") for t, a in read.tags if t == "video")


def test_pictures_say_how_they_were_chosen_and_how_good_they_are(run: Path, read: Page) -> None:
    assert "6 of 9, evenly spaced" in read.text
    arrays = np.load(run / "lam-s0/pictures.npz")
    current, predicted, true = (arrays[k][0].astype(float) for k in ("current", "predicted", "true"))
    ratio = ((predicted - true) ** 2).mean() / ((current - true) ** 2).mean()
    assert f"button-press, frame 0 ratio {share(ratio)}" in read.text


def test_the_page_stays_small_by_leaving_videos_out(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = write_report(run, tmp_path / "whole.html")
    limit = whole.stat().st_size - 30_000
    monkeypatch.setattr("eval.report.document.LARGEST_PAGE", limit)
    cut = write_report(run, tmp_path / "cut.html")
    assert cut.stat().st_size <= limit
    left = Page(whole.read_text()).count("video") - Page(cut.read_text()).count("video")
    assert left > 0
    assert f"{left} video{'s' if left > 1 else ''} left out to keep this file small." in Page(cut.read_text()).text


# -------------------------------------------------------------------------------------------------- hostile and broken


HOSTILE = """</script><script>alert(1)</script>"'><img src=x onerror=alert(1)><b>{0.__class__}{x}&amp;"""


def test_hostile_text_stays_text(small: Path) -> None:
    before = again(small)
    poison(small)
    after = again(small)
    assert after.count("script") == before.count("script") == 1
    assert all((a["src"] or "").startswith("data:image/png;base64,") for t, a in after.tags if t == "img")
    assert after.count("img") == 2 * 3 + 1  # two strips of pictures and one sub-task's frame
    assert after.count("b") == before.count("b")
    assert not [a for _, a in after.tags if any(name.startswith("on") for name in a)]
    assert after.text.count("{0.__class__}{x}&amp;") >= 10  # shown as it was written


def poison(run: Path) -> None:
    """Put the hostile text wherever the page takes text from."""
    index = json.loads((run / "pipeline.json").read_text())
    for step in index["steps"]:
        step["title"] += HOSTILE
    (run / "pipeline.json").write_text(json.dumps({**index, "title": HOSTILE}))
    (run / "recipe.yaml").write_text(json.dumps({"steps": [], "note": HOSTILE}))
    for path in run.glob("rollout-*/episodes.jsonl"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps({**r, "task": r["task"] + HOSTILE}) + "\n" for r in lines))
    teacher = run / "lam-s0"
    (teacher / "health.json").write_text(json.dumps({**HEALTH, HOSTILE: HOSTILE}))
    np.savez(teacher / "pictures.npz", **{**_pictures(2), "captions": np.array([HOSTILE, HOSTILE])})  # type: ignore[arg-type]
    (teacher / "versions.json").write_text(json.dumps({"code": HOSTILE, "packages": {HOSTILE: HOSTILE}}))
    metrics = (teacher / "metrics.jsonl").read_text().replace('"actions"', json.dumps(HOSTILE))
    (teacher / "metrics.jsonl").write_text(metrics)
    (run / "record" / "recipe.yaml").write_text(HOSTILE)
    rows = [{"instruction": HOSTILE, "true": "it", "generated": HOSTILE, "image": 0}]
    (run / "distill-s0" / "subtasks.json").write_text(json.dumps(rows))


def test_an_arm_the_page_does_not_know_is_a_control(small: Path) -> None:
    for path in small.glob("rollout-pca*/episodes.jsonl"):
        path.write_text(path.read_text().replace('"pca"', json.dumps("<i>mine</i>")))
    read = again(small)
    assert read.count("i") == again_italics(read)
    assert "<i>mine</i>" in read.text


def again_italics(read: Page) -> int:
    """The page's own <i>: the bars of gauges and meters."""
    return sum(t == "i" and "style" in a for t, a in read.tags)


@pytest.mark.parametrize(
    ("remove", "sentence"),
    [
        ("rollout-*/episodes.jsonl", "No rollout results yet: step “rollout-distilled-d2-s0”, “rollout-scratch-d2-s0”"),
        ("rollout-*/videos/*", "but no file is there; run the step again."),
        ("lam-*/pictures.npz", "No predicted frames yet: step “lam-s0” (kind “lam”) makes them"),
        ("lam-*/health.json", "No health figures of the latents yet: step “lam-s0” (kind “lam”) makes them"),
        ("distill-*/subtasks.json", "No generated sub-task sentences yet: step “distill-s0”"),
        ("distill-*/subtask_frames.npz", "No frames: distill-s0/subtask_frames.npz is not there."),
        ("distill-*/heldout.json", "No held-out token accuracies yet: step “distill-s0”"),
        ("lam-*/metrics.jsonl", "Not logged yet."),
        ("*/done.json", "No step has finished, so there is no cost to show."),
        ("**/recipe.yaml", "No recipe.yaml was found."),
        ("*/versions.json", "No versions.json was found"),
    ],
)
def test_a_missing_part_costs_a_sentence(small: Path, remove: str, sentence: str) -> None:
    assert sentence not in again(small).text
    paths = list(small.glob(remove))
    assert paths
    for path in paths:
        path.unlink()
    assert sentence in again(small).text


def test_a_run_that_has_only_begun(small: Path) -> None:
    for step in [p for p in small.iterdir() if p.is_dir()]:
        shutil.rmtree(step)
    read = again(small)
    assert "No rollouts yet" in read.text
    assert "has not finished yet" in read.text
    assert read.count("section") == 8


def test_a_pipeline_without_a_kind_of_step_says_so(small: Path) -> None:
    index = json.loads((small / "pipeline.json").read_text())
    kept = [s for s in index["steps"] if s["kind"] not in ("lam", "distill")]
    (small / "pipeline.json").write_text(json.dumps({"steps": kept}))
    assert "this pipeline has no step of kind “lam”" in again(small).text


def test_broken_files_are_named_and_cost_only_their_part(small: Path) -> None:
    (small / "lam-s0" / "health.json").write_text('{"probe_r2_scene": ')
    (small / "lam-s0" / "pictures.npz").write_bytes(b"PK no archive")
    np.savez(small / "distill-s0" / "subtask_frames.npz", frames=np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with (small / "finetune-bc-d2-s0" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 401, "loss": null}\n{"step": 402, "lo')
    with (small / "rollout-bc-d2-s0" / "episodes.jsonl").open("a") as file:
        file.write('{"policy": "bc"}\n')
    text = again(small).text
    for name in ("lam-s0/health.json could", "lam-s0/pictures.npz could", "distill-s0/subtask_frames.npz could"):
        assert name in text
    assert "finetune-bc-d2-s0/metrics.jsonl: 1 line could not be parsed." in text
    assert "finetune-bc-d2-s0/metrics.jsonl: 1 value not finite, left out of the curves." in text
    assert "rollout-bc-d2-s0/episodes.jsonl: 1 rows lack policy, task, init, seed or success_any." in text


def test_a_row_cannot_make_the_page_read_another_file(small: Path) -> None:
    secret = small.parent / "secret.mp4"
    secret.write_bytes(b"secret" * 100)
    for path in small.glob("rollout-*/episodes.jsonl"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps({**r, "video": "../../secret.mp4"}) + "\n" for r in lines))
    assert again(small).count("video") == 0


def test_an_episode_that_could_not_be_played_is_none(small: Path) -> None:
    path = small / "rollout-scratch-d2-s0" / "episodes.jsonl"
    before = len(read_rollouts(read_run(small)))
    row = {**json.loads(path.read_text().splitlines()[0]), "error": "it hung", "success_any": False}
    path.write_text("\n".join([json.dumps(row), *path.read_text().splitlines()[1:]]) + "\n")
    run = read_run(small)
    assert len(read_rollouts(run)) == before - 1
    assert run.problems == ["rollout-scratch-d2-s0: 1 episode could not be played, and counts nowhere."]


def test_an_episode_written_twice_counts_once(small: Path) -> None:
    path = small / "rollout-scratch-d2-s0" / "episodes.jsonl"
    first = path.read_text().splitlines()[0]
    flipped = {**json.loads(first), "success_any": not json.loads(first)["success_any"]}
    before = len(read_rollouts(read_run(small)))
    with path.open("a") as file:
        file.write(json.dumps(flipped) + "\n")
    run = read_run(small)
    after = read_rollouts(run)
    assert len(after) == before
    assert run.problems == ["1 rollout rows repeat an earlier episode; each episode counts once."]
    same = [r for r in after if r.arm == "scratch" and r.task == flipped["task"] and r.init == flipped["init"]]
    assert [r.success for r in same] == [flipped["success_any"]]


@pytest.mark.parametrize("text", [None, "{", "[]", '{"steps": [{"name": "x"}]}', '{"steps": 3}'])
def test_what_is_no_run_folder_is_refused(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "pipeline.json").write_text(text)
    with pytest.raises(ValueError, match="^run: .*pipeline"):
        write_report(tmp_path, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_unfinished_rollouts_make_the_claims_provisional(small: Path) -> None:
    assert "Provisional" not in again(small).text
    (small / "rollout-pca-d2-s0" / "done.json").unlink()
    assert "Provisional: 1 of 6 rollout steps not finished." in again(small).text
