"""`vla plan`: what a training recipe will need, and how long it will take, before anything is rented."""

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recipes.loading import RecipeError, load_recipe

if TYPE_CHECKING:
    from recipes.gpus import Gpu

_PLAN = """examples:
  vla plan recipes/latbot/3_libero.yaml --gpu a100-80 --gpus 8
  vla plan recipes/latbot/3_libero.yaml --gpu rtx4090 --gpus 1 --parallel.kind single
  vla plan recipes/latbot/1_lam_pretrain.yaml --gpu-memory-gib 64 --gpu-tflops 380 --gpus 16

Neither data nor weights need be there, and nothing is allocated. docs/plan.md says what is computed and what is taken
for granted. Exit status: 0 it fits, 1 it does not (and what would is printed), 2 the recipe is wrong.
"""
_GPUS_OF_A_NODE = 8


def add_plan_command(commands: Any) -> None:
    """Add `plan` to the commands of `vla`."""
    words = "what a training recipe needs (memory, FLOPs, days) and whether it fits, before it is run"
    plan = commands.add_parser(
        "plan",
        help=words,
        description=words[0].upper() + words[1:] + ".",
        epilog=_PLAN,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    plan.add_argument("recipe", type=Path, help="a training recipe; `--field value` overrides its fields")
    plan.add_argument("--gpus", type=int, help=f"how many (1 for `parallel: single`, else {_GPUS_OF_A_NODE})")
    plan.add_argument("--gpu", help="which, by name: h200 (the default), h100, a100-80, a100-40, l40s, rtx4090, ...")
    plan.add_argument("--gpu-memory-gib", type=float, help="of a GPU that has no name here")
    plan.add_argument("--gpu-tflops", type=float, help="its peak in the recipe's dtype, without sparsity")
    plan.add_argument("--mfu", type=float, default=0.4, help="share of that peak a step reaches (0.4)")
    plan.set_defaults(handler=_plan)


def _plan(options: argparse.Namespace, overrides: dict[str, object]) -> None:
    recipe = load_recipe(options.recipe, overrides)
    if not hasattr(recipe, "stand_in"):
        raise RecipeError(
            f"{options.recipe} has `stage: {recipe.stage}`, which trains nothing: plan a training recipe."
        )
    if hasattr(recipe, "check_frozen"):
        recipe.check_frozen()
    gpu, num_gpus = _gpu(options), _num_gpus(options, recipe.parallel.kind)
    if not 0 < options.mfu <= 1:
        raise RecipeError(f"--mfu {options.mfu}: a share of the peak lies in (0, 1], such as 0.4")
    from recipes.data_tables import terminal
    from recipes.plan_tables import alternatives_table, plan_tables
    from recipes.planning import Planner

    console = terminal()
    planner = Planner(gpu, options.mfu)
    plan = planner.plan(recipe, num_gpus)
    console.print(plan_tables(plan, str(options.recipe), options.mfu))
    if not plan.fits:
        console.print(alternatives_table(planner.alternatives(recipe, num_gpus), plan))
        needs = plan.memory.total / 2**30
        raise RuntimeError(f"does not fit: a GPU needs {needs:.1f} GiB, and {gpu.name} has {gpu.memory_gib:g} GiB.")


def _gpu(options: argparse.Namespace) -> "Gpu":
    from recipes.gpus import Gpu, find_gpu

    memory, tflops = options.gpu_memory_gib, options.gpu_tflops
    if memory is None and tflops is None:
        return find_gpu(options.gpu or "h200")
    if options.gpu is not None:
        raise RecipeError(f"--gpu {options.gpu} says what its memory and peak are: leave out --gpu-memory-gib/-tflops.")
    if memory is None or tflops is None or not (0 < memory < math.inf and 0 < tflops < math.inf):
        raise RecipeError("a GPU without a name needs both --gpu-memory-gib and --gpu-tflops, above 0.")
    return Gpu(f"a GPU of {memory:g} GiB", memory, tflops, tflops)


def _num_gpus(options: argparse.Namespace, kind: str) -> int:
    num_gpus = options.gpus if options.gpus is not None else 1 if kind == "single" else _GPUS_OF_A_NODE
    if num_gpus < 1:
        raise RecipeError(f"--gpus {num_gpus}: give 1 or more")
    if kind == "single" and num_gpus > 1:
        raise RecipeError(f"`parallel.kind: single` runs on one GPU, not {num_gpus}: add `--parallel.kind fsdp`.")
    return num_gpus
