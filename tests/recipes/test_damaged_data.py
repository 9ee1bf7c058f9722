"""The nano pipeline on data with defects: trained to the end, each defect once in the run folder and in the report."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from data_mixtures.config import DatasetConfig, MixtureConfig, WindowConfig
from data_mixtures.mixture import Mixture
from data_mixtures.quarantine import read_quarantine
from eval.report import write_report
from recipes.cli import main
from recipes.loading import RecipeError
from tests.recipes.conftest import LENGTHS, write_data
from tests.recipes.run_folder import done, losses

NOT_A_NUMBER, GARBLED = 1, 4  # the episodes that are damaged
FEW_STEPS = {"loop.steps": 12, "loop.save_every": 6}


def _put_nan(root: Path) -> None:
    path = next((root / "data").rglob("*.parquet"))
    table = pq.read_table(path)
    states = table["observation.state"].to_pylist()
    states[sum(LENGTHS[:NOT_A_NUMBER]) + 3][0] = float("nan")
    place = table.schema.get_field_index("observation.state")
    field = table.schema.field(place)
    pq.write_table(table.set_column(place, field, pa.array(states, type=field.type)), path)


def _garble_frames(root: Path) -> None:
    """Nonsense where an episode's last pictures lie; those of the next one begin with a keyframe of their own."""
    path = next((root / "videos").rglob("*.mp4"))
    with av.open(str(path)) as container:
        packets = sorted((packet.pts, packet.pos, packet.size) for packet in container.demux(video=0) if packet.size)
    content = bytearray(path.read_bytes())
    stop = sum(LENGTHS[: GARBLED + 1])
    for _, position, size in packets[stop - 6 : stop]:
        assert position is not None
        content[position : position + size] = bytes([0x55]) * size
    path.write_bytes(content)


@pytest.fixture(scope="module")
def damaged(workplace: Path) -> Path:
    """A data set of six episodes, two of them damaged, beside the sound one."""
    root = workplace / "damaged"
    write_data(root)
    _put_nan(root)
    _garble_frames(root)
    return root


def _on_damaged(recipe: str) -> dict[str, Any]:
    held_out = {"heldout.datasets.0.path": "damaged", "heldout.datasets.0.skip_per_task": 1}  # the garbled one too
    return {"data.datasets.0.path": "damaged"} | (held_out if recipe == "lam" else {})


@pytest.fixture(scope="module")
def trained(damaged: Path, run_stage: Callable[..., Path]) -> Path:
    """Stage 1 on it."""
    torch.set_num_threads(1)
    return run_stage("lam", "runs/damaged/lam", _on_damaged("lam") | FEW_STEPS)


@pytest.fixture(scope="module")
def labelled(trained: Path, run_stage: Callable[..., Path]) -> Path:
    """Its labels, and stage 2 on them."""
    overrides = {"teacher": "runs/damaged/lam", "datasets.play": "damaged"} | _on_damaged("label")
    labels = run_stage("label", "runs/damaged/labels", overrides)
    paths = {f"{name}.datasets.0.path": "runs/damaged/labels/play" for name in ("data", "heldout")}
    run_stage("distill", "runs/damaged/distill", paths | {"heldout.datasets.0.skip_per_task": 1} | FEW_STEPS)
    return labels


def _left_out(run: Path) -> set[tuple[str, str, str]]:
    found = [(name, d.key, d.kind) for name, d in read_quarantine(run / "quarantine.jsonl")]
    assert len(found) == len(set(found)) == len((run / "quarantine.jsonl").read_text().splitlines())
    return set(found)


def _both(path: str) -> set[tuple[str, str, str]]:
    return {(path, f"episode_{NOT_A_NUMBER:06d}", "not_finite"), (path, f"episode_{GARBLED:06d}", "video")}


def test_training_goes_on_and_names_what_it_left_out(trained: Path) -> None:
    assert done(trained)["skipped_steps"] == 0
    assert len(losses(trained)) == 12
    assert (trained / "health.json").exists(), "measured on what is sound of the held-out windows"
    assert all(np.isfinite(row["loss"]) for row in losses(trained))
    assert _left_out(trained) == _both("damaged")


def test_the_same_command_again_repeats_nothing(trained: Path, run_stage: Callable[..., Path]) -> None:
    before = (trained / "quarantine.jsonl").read_text()
    run_stage("lam", "runs/damaged/lam", _on_damaged("lam") | FEW_STEPS)
    assert (trained / "quarantine.jsonl").read_text() == before


def test_stopped_and_gone_on_it_trains_on_the_same(trained: Path, run_stage: Callable[..., Path]) -> None:
    run = Path(shutil.copytree(trained, trained.with_name("again")))
    for name in ("done.json", "health.json", "quarantine.jsonl"):
        (run / name).unlink()
    for folder in ("model", "checkpoints/step-00000012"):
        shutil.rmtree(run / folder)
    run_stage("lam", "runs/damaged/again", _on_damaged("lam") | FEW_STEPS)
    assert losses(run) == losses(trained)
    first, second = (load_file(r / "model" / "model.safetensors") for r in (trained, run))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_labels_of_what_cannot_be_seen_are_not_trained_on(labelled: Path) -> None:
    assert _left_out(labelled) == _both("damaged")
    folder = labelled / "play"
    (entry,) = json.loads((folder / "meta/latent.left_out.json").read_text())
    assert (entry["episode"], entry["kind"]) == (GARBLED, "video")
    window = WindowConfig(1, 4)
    mixture = Mixture(
        MixtureConfig([DatasetConfig(str(folder), labelled_share=0)], ["corner"], window, 32, latents="latent"), 0
    )
    used = mixture.sources[0].index.source_episode[mixture.sources[0].episode_ids]
    assert used.tolist() == [0, 2, 3, 5]
    latents = mixture.batch_at(range(mixture.num_frames)).latents
    assert latents is not None
    assert (latents.flatten(1).abs().sum(1) > 0).all(), "every window that is drawn has a label"
    distilled = labelled.with_name("distill")
    assert len(losses(distilled)) == 12
    assert _left_out(distilled) == _both("runs/damaged/labels/play")


def test_the_report_names_them(labelled: Path) -> None:
    run = labelled.parent
    steps = [
        {"name": name, "kind": kind} for name, kind in (("lam", "lam"), ("labels", "label"), ("distill", "distill"))
    ]
    (run / "pipeline.json").write_text(json.dumps({"steps": steps}))
    text = write_report(run, run / "report.html").read_text()
    assert "Data left out" in text
    assert f"episode_{NOT_A_NUMBER:06d}" in text
    assert f"episode_{GARBLED:06d}" in text
    assert "state[3, 0]" in text


def test_strict_stops_before_training(damaged: Path, run_stage: Callable[..., Path]) -> None:
    with pytest.raises(RecipeError, match=r"`data`: damaged: episode_000001: .* nan .*Mend the data set"):
        run_stage("lam", "runs/damaged/strict", _on_damaged("lam") | FEW_STEPS | {"data.strict": True})
    assert not (damaged.parent / "runs/damaged/strict").exists()


def test_strict_stops_at_what_decoding_finds(
    damaged: Path, in_workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    only_video = shutil.copytree(damaged, damaged.with_name("garbled"), ignore=shutil.ignore_patterns(".cache"))
    sound = damaged.with_name("data") / "data"
    shutil.copytree(sound, only_video / "data", dirs_exist_ok=True)
    overrides = {name: str(value) for name, value in FEW_STEPS.items()} | {"data.strict": "true"}
    arguments = [word for name, value in overrides.items() for word in (f"--{name}", value)]
    paths = [word for name in ("data", "heldout") for word in (f"--{name}.datasets.0.path", "garbled")]
    assert main(["run", "lam.yaml", "--run", "runs/damaged/strict", *arguments, *paths]) != 0
    said = capsys.readouterr().err
    assert f"garbled: episode_{GARBLED:06d}:" in said
    assert "`strict: false`" in said
    assert "Traceback" not in said
