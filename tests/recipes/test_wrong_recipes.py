"""What is wrong stops before any work, with exit code 2 and a sentence that names field, value and fix."""

from pathlib import Path

import pytest
import yaml

from recipes.cli import main
from recipes.loading import load_recipe

Said = pytest.CaptureFixture[str]

# recipe, overrides, words that must be said
WRONG = {
    "misspelt key": ("lam", ["--optim.warmup_step", "3"], ["`optim`", "`warmup_step`", "Did you mean `warmup_steps`"]),
    "wrong type": ("lam", ["--loop.steps", "many"], ["`loop.steps`", "many"]),
    "impossible value": ("lam", ["--optim.lr", "-1"], ["optim.lr is -1", "positive"]),
    "unknown camera": ("lam", ["--data.cameras", "[wrist]"], ["`data`", "'wrist'", "choose from ['corner']"]),
    "horizon longer than every episode": (
        "lam",
        ["--data.window.horizon", "30", "--heldout.window.horizon", "30", "--model.horizon", "30"],
        ["`data`: window.horizon is 30", "longest episode of data has 27 frames", "lower window.horizon"],
    ),
    "horizons that differ": (
        "finetune",
        ["--objective.model.horizon", "5", "--objective.init_from", "null"],
        ["`data.window.horizon: 4`", "`objective.model.horizon: 5`", "must be equal"],
    ),
    "missing data": (
        "lam",
        ["--data.datasets.0.path", "nowhere/data"],
        ["`data.datasets.0.path: nowhere/data` does not exist", "--data.datasets.0.path"],
    ),
    "not a data set": ("lam", ["--data.datasets.0.path", "."], ["looks like no format", "meta/info.json"]),
    "data without latents": ("distill", ["--data.datasets.0.path", "data"], ["`data`", "'latent.scene'", "vla label"]),
    "missing start": (
        "finetune",
        ["--objective.init_from", "nowhere/model"],
        ["`objective.init_from: nowhere/model` does not exist", "run the stage that makes it"],
    ),
    "adapters on random weights": (
        "finetune",
        ["--objective.train", "lora", "--objective.init_from", "null"],
        ["`objective.train: lora`", "`objective.init_from`", "random", "`train: full`"],
    ),
    "adapters on layers that there are not": (
        "finetune",
        ["--objective.train", "lora", "--objective.lora.vlm", "[query]", "--objective.init_from", "data"],
        ["lora.vlm names 'query'", "There are attention, down_proj, gate_proj"],
    ),
    "frozen weights in another precision than the products": (
        "finetune",
        ["--objective.frozen_dtype", "bfloat16", "--objective.init_from", "null"],
        ["`objective.frozen_dtype: bfloat16`", "`loop.dtype: bfloat16`"],
    ),
    "stage 1 not trained yet": ("label", ["--teacher", "nowhere"], ["`teacher: nowhere`", "run stage 1 first"]),
    "stage 1 not finished": ("label", ["--teacher", "data"], ["`teacher: data` holds no `model`", "run stage 1 first"]),
    "batch and accumulation": ("lam", ["--loop.accumulate", "3"], ["loop.batch_size is 8", "divisible", "that is: 9"]),
    "no launcher": (
        "lam",
        ["--parallel.kind", "ddp"],
        ["parallel.kind is 'ddp'", "torchrun", "kind to single"],
    ),
}


def _nothing_was_done(run: Path) -> bool:
    return {path.name for path in run.rglob("*")} <= {".lock"}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_recipe_stops_before_any_work(case: str, in_workplace: Path, tmp_path: Path, capfd: Said) -> None:
    recipe, overrides, words = WRONG[case]
    if recipe == "distill":  # its own data set is what `vla label` makes
        overrides = [*overrides, "--heldout", "null"]
    assert main(["run", f"{recipe}.yaml", "--run", str(tmp_path / "run"), *overrides]) == 2
    said = capfd.readouterr().err
    for word in words:
        assert word in said
    assert _nothing_was_done(tmp_path / "run")


# recipe, ranks, overrides, words
WRONG_LAUNCHES = {
    "batch over the ranks": (
        "lam",
        3,
        ["--parallel.kind", "ddp"],
        ["loop.batch_size is 8", "ranks (3)", "nearest that is: 9"],
    ),
    "batch over ranks and micro-batches": (
        "lam",
        2,
        ["--parallel.kind", "fsdp", "--loop.accumulate", "8"],
        ["loop.batch_size is 8", "loop.accumulate (8) x ranks (2) = 16"],
    ),
    "a single process launched twice": ("lam", 2, [], ["parallel.kind is 'single'", "2 processes"]),
    "one process' work launched twice": ("label", 2, [], ["`stage: label` runs in one process", "2 were launched"]),
}


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("case", WRONG_LAUNCHES)
def test_a_wrong_launch_stops_on_every_rank(
    case: str, rank: int, in_workplace: Path, tmp_path: Path, capfd: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, ranks, overrides, words = WRONG_LAUNCHES[case]
    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.setenv("WORLD_SIZE", str(ranks))
    assert main(["run", f"{recipe}.yaml", "--run", str(tmp_path / "run"), *overrides]) == 2
    said = capfd.readouterr().err
    for word in words:
        assert word in said
    assert _nothing_was_done(tmp_path / "run")


def test_a_pipeline_names_the_step_before_the_first_one_starts(in_workplace: Path, tmp_path: Path, capfd: Said) -> None:
    path = in_workplace / "wrong.yaml"
    tree = yaml.safe_load((in_workplace / "pipeline.yaml").read_text())
    tree["steps"][3]["set"]["optim.warmup"] = 3
    path.write_text(yaml.safe_dump(tree))
    assert main(["run", "wrong.yaml", "--run", str(tmp_path / "run")]) == 2
    said = capfd.readouterr().err
    for word in ("step `finetune`", "`optim`", "`warmup`"):
        assert word in said
    assert _nothing_was_done(tmp_path / "run")


def test_an_input_that_no_step_makes_is_named(in_workplace: Path, tmp_path: Path, capfd: Said) -> None:
    tree = yaml.safe_load((in_workplace / "pipeline.yaml").read_text())
    tree["steps"] = tree["steps"][2:]
    tree["steps"][0]["needs"] = []
    (in_workplace / "wrong.yaml").write_text(yaml.safe_dump(tree))
    assert main(["run", "wrong.yaml", "--run", str(tmp_path / "run")]) == 2
    assert (
        f"step `distill`: `data.datasets.0.path: {tmp_path}/run/labels/play` does not exist" in capfd.readouterr().err
    )


SHORT = ["--loop.steps", "1", "--loop.save_every", "0", "--objective.init_from", "null"]


def test_an_override_is_in_the_resolved_recipe_and_another_recipe_is_refused(
    in_workplace: Path, tmp_path: Path, capfd: Said
) -> None:
    run = tmp_path / "run"
    assert main(["run", "finetune.yaml", "--run", str(run), *SHORT, "--optim.lr", "1e-4"]) == 0
    resolved = yaml.safe_load((run / "recipe.yaml").read_text())
    assert resolved["optim"]["lr"] == 1e-4
    assert resolved["loop"]["accumulate"] == 1, "defaults are written out"
    versions = yaml.safe_load((run / "versions.json").read_text())
    assert versions["packages"]["torch"]
    assert versions["code"]

    metrics, model = (run / "metrics.jsonl").read_bytes(), run / "model" / "model.safetensors"
    changed = model.stat().st_mtime_ns
    capfd.readouterr()
    assert main(["run", "finetune.yaml", "--run", str(run), *SHORT, "--optim.lr", "2e-4"]) == 2
    said = capfd.readouterr().err
    for word in (str(run), "different recipe", "`lr: 0.0001` there, `lr: 0.0002` here", "--run FOLDER"):
        assert word in said
    assert (run / "metrics.jsonl").read_bytes() == metrics
    assert model.stat().st_mtime_ns == changed
    assert yaml.safe_load((run / "recipe.yaml").read_text()) == resolved


def test_what_show_prints_is_the_recipe(in_workplace: Path, tmp_path: Path, capfd: Said) -> None:
    assert main(["show", "lam.yaml", "--optim.lr", "1e-4", "--data.datasets.0.path", "elsewhere"]) == 0
    shown = tmp_path / "shown.yaml"
    shown.write_text(capfd.readouterr().out)
    assert load_recipe(shown) == load_recipe("lam.yaml", {"optim.lr": 1e-4, "data.datasets.0.path": "elsewhere"})
    assert not (in_workplace / "elsewhere").exists()


def test_fields_teaches_every_field(in_workplace: Path, capfd: Said) -> None:
    assert main(["fields", "lam.yaml"]) == 0
    rows = {line.split()[0]: line for line in capfd.readouterr().out.splitlines()}
    assert "required" in rows["--loop.steps"]
    assert "default the preset's" in rows["--optim.lr"]
    assert "default 10" in rows["--loop.log_every"]
    assert "single|ddp|fsdp|deepspeed" in rows["--parallel.kind"]
    assert {"--data.datasets.0.path", "--heldout.window.horizon", "--model.decoder.num_layers"} <= set(rows)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--help"], ["vla run recipes/demo/pipeline.yaml", "--optim.lr 1e-4", "torchrun", "show", "fields", "report"]),
        (["run", "--help"], ["goes on after an interruption", "shipped are under recipes/"]),
    ],
)
def test_help_teaches(arguments: list[str], words: list[str], capfd: Said) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0
    said = capfd.readouterr().out
    for word in words:
        assert word in said
