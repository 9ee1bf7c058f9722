"""A pipeline's steps: axes, order, folders, and what is wrong said before anything runs."""

from typing import Any

import pytest

from recipes.axes import StepConfig
from recipes.loading import RecipeError, decode
from recipes.pipeline import PipelineRecipe


def _pipeline(*steps: StepConfig, **axes: Any) -> PipelineRecipe:
    return PipelineRecipe(stage="pipeline", run="runs/x", steps=list(steps), axes=axes)


def test_steps_repeat_over_what_their_name_holds() -> None:
    recipe = _pipeline(
        StepConfig("play", "a.yaml"),
        StepConfig("lam-s{seed}", "b.yaml", needs=["play"], set={"loop.seed": "{seed}"}),
        StepConfig(
            "fit-s{seed}-d{demos}", "c.yaml", needs=["lam-s{seed}"], set={"n": "{demos}", "from": "{run}/lam-s{seed}"}
        ),
        StepConfig("report", "d.yaml", needs=["fit-s{seed}-d{demos}"]),
        seed=[0, 1],
        demos=[2, 5],
    )
    steps = {s.name: s for s in recipe.expand()}
    assert list(steps) == [
        "play", "lam-s0", "fit-s0-d2", "fit-s0-d5", "lam-s1", "fit-s1-d2", "fit-s1-d5", "report",
    ]  # fmt: skip
    assert steps["lam-s1"].set == {"loop.seed": 1}
    assert steps["fit-s1-d5"].set == {"n": 5, "from": "runs/x/lam-s1"}
    assert steps["report"].needs == ["fit-s0-d2", "fit-s0-d5", "fit-s1-d2", "fit-s1-d5"]


def test_a_table_of_a_task_waits_for_that_tasks_repetitions_and_lists_their_folders() -> None:
    recipe = _pipeline(
        StepConfig("roll-{task}-{method}-s{seed}", "methods/{method}.yaml", run="shared/{task}/{method}/{seed}"),
        StepConfig(
            "table-{task}",
            "t.yaml",
            needs=["roll-{task}-{method}-s{seed}"],
            set={"results": ["shared/{task}/{method}/{seed}", "shared/{task}/expert"], "task": "{task}"},
        ),
        task=["door", "drawer"],
        method={"a": {}, "b": {}},
        seed=[0, 1],
    )
    steps = {s.name: s for s in recipe.expand()}
    table = steps["table-drawer"]
    assert table.needs == ["roll-drawer-a-s0", "roll-drawer-a-s1", "roll-drawer-b-s0", "roll-drawer-b-s1"]
    assert table.set == {
        "results": [
            *("shared/drawer/a/0", "shared/drawer/a/1", "shared/drawer/b/0", "shared/drawer/b/1"),
            "shared/drawer/expert",
        ],
        "task": "drawer",
    }
    assert table.run == "runs/x/table-drawer"
    assert (steps["roll-door-b-s1"].recipe, steps["roll-door-b-s1"].run) == ("methods/b.yaml", "shared/door/b/1")
    assert steps["roll-door-b-s1"].values == {"task": "door", "method": "b", "seed": 1}


def test_the_first_axis_is_gone_through_value_by_value() -> None:
    """After an interruption the first tasks are whole, and not all tasks half done."""
    recipe = _pipeline(
        StepConfig("a-{task}", "x"),
        StepConfig("b-{task}-{seed}", "x", needs=["a-{task}"]),
        StepConfig("all", "x", needs=["b-{task}-{seed}"]),
        task=["t", "u"],
        seed=[0, 1],
    )
    assert [s.name for s in recipe.expand()] == ["a-t", "b-t-0", "b-t-1", "a-u", "b-u-0", "b-u-1", "all"]


def test_a_value_brings_its_fields_to_the_steps_that_vary_with_it() -> None:
    recipe = _pipeline(
        StepConfig("fit-{kind}", "x", set={"lam.dim": 8, "seed": 3}, vary=["kind"]),
        StepConfig("roll-{kind}", "x", set={"arm": "{kind}"}),
        kind={"plain": {}, "wide": {"lam.dim": 16}},
    )
    steps = {s.name: s.set for s in recipe.expand()}
    assert steps["fit-plain"] == {"lam.dim": 8, "seed": 3}
    assert steps["fit-wide"] == {"lam.dim": 16, "seed": 3}
    assert steps["roll-wide"] == {"arm": "wide"}


def test_a_placeholder_alone_is_the_value_and_within_text_its_words() -> None:
    recipe = _pipeline(StepConfig("w{weight}", "x", title="Weight {weight}", set={"a": "{weight}", "b": "x{weight}"}),
                       weight=[0.001, 1])  # fmt: skip
    first, second = recipe.expand()
    assert (first.name, first.title, first.set) == ("w0.001", "Weight 0.001", {"a": 0.001, "b": "x0.001"})
    assert second.set == {"a": 1, "b": "x1"}


def test_the_groups_title_leaves_the_seed_open() -> None:
    (one, _) = _pipeline(StepConfig("{task}-{seed}", "x", title="Fit {task}, seed {seed}"), task=["t"],
                         seed=[0, 1]).expand()  # fmt: skip
    assert (one.title, one.group, one.template) == ("Fit t, seed 0", "Fit t, seed {seed}", "{task}-{seed}")


def test_order_respects_needs_whatever_was_written_first() -> None:
    recipe = _pipeline(StepConfig("b", "x", needs=["a"]), StepConfig("a", "x"))
    assert [s.name for s in recipe.expand()] == ["a", "b"]


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([StepConfig("b", "x", needs=["a"])], "`b` needs `a`, which no step makes"),
        ([StepConfig("a", "x", needs=["b"]), StepConfig("b", "x", needs=["a"])], "a, b need each other"),
        ([StepConfig("a", "x"), StepConfig("a", "y")], "two steps are named `a`"),
        (
            [StepConfig("a", "x", set={"n": "{demos}"})],
            "says {demos} in `set.n`, and there is no such axis.*seed",
        ),
        ([StepConfig("a", "x", set={"n": "{seed}"})], "says {seed} in `set.n`, but is not repeated over it"),
        ([StepConfig("a", "x", run="runs/{seed}")], "says {seed} in `run`, but is not repeated"),
        ([StepConfig("a", "x", vary=["kind"])], "`a` varies with `kind`, which is no axis in its name"),
        ([StepConfig("a{seed}", "x", vary=["seed"])], "`a{seed}` varies with `seed`, whose values bring no fields"),
    ],
)
def test_what_is_wrong_is_named(steps: list[StepConfig], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        _pipeline(*steps, seed=[0, 1], kind={"one": {}}).expand()


@pytest.mark.parametrize(
    ("axes", "words"),
    [
        ({"seed": []}, "axes.seed: ..` must be a list of values"),
        ({"seed": 3}, "axes.seed: 3` must be a list"),
        ({"seed": [1, "1"]}, "holds a value twice"),
        ({"run": [1]}, "`axes.run` cannot be a placeholder's name"),
        ({"kind": {"a": 3}}, "`axes.kind`: behind every value stand its fields"),
    ],
)
def test_axes_that_cannot_be_are_refused(axes: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        decode(PipelineRecipe, {"stage": "pipeline", "run": "r", "steps": [], "axes": axes}, "x.yaml")
