"""A pipeline's steps: placeholders, order, and what is wrong said before anything runs."""

import pytest

from recipes.loading import RecipeError
from recipes.pipeline import PipelineRecipe, StepConfig


def _pipeline(*steps: StepConfig, seeds: tuple[int, ...] = (0,), demos: tuple[int, ...] = (2,)) -> PipelineRecipe:
    return PipelineRecipe(stage="pipeline", run="runs/x", steps=list(steps), seeds=list(seeds), demos=list(demos))


def test_steps_repeat_over_what_their_name_holds() -> None:
    recipe = _pipeline(
        StepConfig("play", "a.yaml"),
        StepConfig("lam-s{seed}", "b.yaml", needs=["play"], set={"loop.seed": "{seed}"}),
        StepConfig(
            "fit-s{seed}-d{demos}", "c.yaml", needs=["lam-s{seed}"], set={"n": "{demos}", "from": "{run}/lam-s{seed}"}
        ),
        StepConfig("report", "d.yaml", needs=["fit-s{seed}-d{demos}"]),
        seeds=(0, 1),
        demos=(2, 5),
    )
    steps = {s.name: s for s in recipe.expand()}
    assert list(steps) == [
        "play", "lam-s0", "lam-s1", "fit-s0-d2", "fit-s0-d5", "fit-s1-d2", "fit-s1-d5", "report",
    ]  # fmt: skip
    assert steps["lam-s1"].set == {"loop.seed": 1}
    assert steps["fit-s1-d5"].set == {"n": 5, "from": "runs/x/lam-s1"}
    assert steps["report"].needs == ["fit-s0-d2", "fit-s0-d5", "fit-s1-d2", "fit-s1-d5"]


def test_order_respects_needs_whatever_was_written_first() -> None:
    recipe = _pipeline(StepConfig("b", "x", needs=["a"]), StepConfig("a", "x"))
    assert [s.name for s in recipe.expand()] == ["a", "b"]


def test_a_need_nobody_makes_is_named() -> None:
    with pytest.raises(RecipeError, match="`b` needs `a`"):
        _pipeline(StepConfig("b", "x", needs=["a"])).expand()


def test_a_circle_is_named() -> None:
    with pytest.raises(RecipeError, match="a, b need each other"):
        _pipeline(StepConfig("a", "x", needs=["b"]), StepConfig("b", "x", needs=["a"])).expand()


def test_two_steps_of_one_name_are_refused() -> None:
    with pytest.raises(RecipeError, match="two steps are named `a`"):
        _pipeline(StepConfig("a", "x"), StepConfig("a", "y")).expand()
