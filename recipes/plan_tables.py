"""What `vla plan` prints, for people: every number with its unit, and what was taken for granted."""

from typing import Any

import yaml
from rich import box
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from recipes.planning import CONTEXT_GIB, FRAGMENTATION, GIB, NCCL_GIB, OVERHEAD, Changes, Plan
from recipes.stand_in import SUBTASK_TOKENS
from vla.train.footprint.memory import ACTIVATIONS
from vla.train.footprint.placement import EMA, GATHERED, GRADIENTS, OPTIMISER, WEIGHTS


def plan_tables(plan: Plan, recipe_path: str, utilisation: float) -> RenderableType:
    """Parameters, FLOPs, memory, pace, and what is assumed."""
    return Group(
        _head(plan, recipe_path),
        _parameters(plan),
        _flops(plan),
        _memory(plan),
        _pace(plan, utilisation),
        _assumed(plan, utilisation),
    )


def _head(plan: Plan, recipe_path: str) -> RenderableType:
    loop, parallel = plan.recipe.loop, plan.recipe.parallel
    again = ", activation checkpointing" if loop.activation_checkpointing else ""
    words = (
        f"[bold]{escape(recipe_path)}[/]  stage {plan.recipe.stage}\n"
        f"{plan.num_gpus} x {plan.gpu.name}, {parallel.name}, {loop.dtype}{again}; an update sees {loop.batch_size} "
        f"samples: {plan.num_gpus} GPU{'s' * (plan.num_gpus > 1)} x {loop.accumulate} "
        f"micro-batch{'es' * (loop.accumulate > 1)} of {plan.micro_batch}"
    )
    return Padding(Text.from_markup(words), (0, 0, 1, 0))


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 2))
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index in (0, len(columns)) else "right")
    return table


def _parameters(plan: Plan) -> RenderableType:
    table = _table("parameters", "all", "that learn", "share")
    for part in plan.parts:
        table.add_row(escape(part.name), f"{part.total:,}", f"{part.trainable:,}", _share(part.trainable, part.total))
    total, trainable = sum(p.total for p in plan.parts), sum(p.trainable for p in plan.parts)
    table.add_section()
    table.add_row("all", f"{total:,}", f"{trainable:,}", _share(trainable, total), style="bold")
    return Padding(table, (0, 0, 1, 0))


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


def _flops(plan: Plan) -> RenderableType:
    forward, backward, recomputed = plan.flops
    table = _table("FLOPs a sample", "", "share")
    total = sum(plan.flops)
    for name, count in (("forward", forward), ("backward", backward), ("computed again", recomputed)):
        if count:
            table.add_row(name, _count(count, "FLOP"), _share(count, total))
    table.add_section()
    table.add_row("all", _count(total, "FLOP"), "", style="bold")
    return Padding(table, (0, 0, 1, 0))


def _count(value: float, unit: str) -> str:
    for size, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M")):
        if value >= size:
            return f"{value / size:,.2f} {prefix}{unit}"
    return f"{value:,.0f} {unit}"


def _memory(plan: Plan) -> RenderableType:
    table = _table("memory of a GPU, at the fullest moment of a step", "GiB", "")
    table.columns[2].justify = "left"
    notes = _notes(plan)
    for name, size in plan.memory.parts.items():
        if size:
            table.add_row(name, _gib(size), notes.get(name, ""))
    has, needs = plan.gpu.memory_gib, plan.memory.total / GIB
    table.add_section()
    table.add_row("all", _gib(plan.memory.total), _share(needs, has) + f" of {has:g} GiB", style="bold")
    verdict = (
        f"[bold green]fits[/] on {plan.gpu.name}, {has - needs:.1f} GiB to spare"
        if plan.fits
        else f"[bold red]does not fit[/] on {plan.gpu.name}: {needs - has:.1f} GiB too much"
    )
    return Padding(Group(table, Text.from_markup(verdict)), (0, 0, 1, 0))


def _gib(size: float) -> str:
    return f"{size / GIB:.2f}" if size >= 0.1 * GIB else f"{size / GIB:.4f}"


def _notes(plan: Plan) -> dict[str, str]:
    loop, parallel, gpus = plan.recipe.loop, plan.recipe.parallel, plan.num_gpus
    weights_cut = parallel.kind == "fsdp" or (parallel.kind == "deepspeed" and parallel.zero_stage == 3)
    state_cut = parallel.kind in ("fsdp", "deepspeed")
    kept = "recomputed in the backward pass" if loop.activation_checkpointing else "kept for the backward pass"
    return {
        WEIGHTS: _precision(plan) + (f", 1/{gpus} of them" if weights_cut and gpus > 1 else ", whole"),
        GRADIENTS: "at that moment" + (", whole until the last micro-batch" if loop.accumulate > 1 else ""),
        OPTIMISER: "AdamW's two moments" + (f", 1/{gpus} of them" if state_cut and gpus > 1 else ""),
        EMA: "averages of what learns",
        ACTIVATIONS: f"of {plan.micro_batch} samples, {kept}, with the batch and temporaries",
        GATHERED: "weights gathered and gradients reduced, a block at a time",
        OVERHEAD: "assumed",
    }


def _precision(plan: Plan) -> str:
    frozen = getattr(plan.recipe, "objective", None)
    return "float32" if getattr(frozen, "frozen_dtype", "float32") == "float32" else "float32, frozen matrices bfloat16"


def _pace(plan: Plan, utilisation: float) -> RenderableType:
    loop = plan.recipe.loop
    table = _table("pace", "", "")
    table.columns[2].justify = "left"
    peak = plan.gpu.tflops(loop.dtype)
    table.add_row(
        "samples a second", _figure(plan.samples_per_s), f"{plan.num_gpus} x {utilisation:g} x {peak:g} TFLOP/s"
    )
    table.add_row("seconds an update", _figure(loop.batch_size / plan.samples_per_s), f"{loop.batch_size} samples")
    table.add_row(
        "all updates", _duration(plan.days), f"{loop.steps:,} of them, {loop.steps * loop.batch_size:,} samples"
    )
    table.add_row(
        "GPU time", f"{24 * plan.days * plan.num_gpus:,.1f} h", f"{plan.num_gpus} GPU{'s' * (plan.num_gpus > 1)}"
    )
    return Padding(table, (0, 0, 1, 0))


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _duration(days: float) -> str:
    if days >= 1:
        return f"{days:.1f} days"
    if days >= 1 / 24:
        return f"{24 * days:.1f} hours"
    return f"{1440 * days:.1f} minutes" if days >= 1 / 1440 else f"{86_400 * days:.4f} seconds"


def _assumed(plan: Plan, utilisation: float) -> RenderableType:
    config = plan.recipe.data
    cameras = f"{len(config.cameras)} camera{'s' * (len(config.cameras) > 1)} ({', '.join(config.cameras)})"
    forward, backward, recomputed = plan.flops
    useful = utilisation * (forward + backward) / (forward + backward + recomputed)
    lines = [
        f"every sample has all {cameras} and a prompt of the longest length; where sub-tasks are read they have "
        f"{SUBTASK_TOKENS} tokens, and where FAST tokens are, chunks are as smooth as a sine",
        f"a step reaches {utilisation:.0%} of the GPU's peak (--mfu)"
        + (f"; {useful:.0%} without what is computed again" if recomputed else ""),
        "the loader and the network keep up; checkpoints and evaluation cost nothing",
        f"overhead: {CONTEXT_GIB:g} GiB for CUDA"
        + (f", {NCCL_GIB:g} GiB for NCCL" if plan.num_gpus > 1 else "")
        + f", and {FRAGMENTATION:.0%} of gradients, activations and gathered weights lost to fragmentation",
    ]
    return Group(Text("assumed", style="bold"), *(Text(f"  - {line}") for line in lines))


def alternatives_table(found: list[Plan], plan: Plan) -> RenderableType:
    """What would fit, the smallest change first, with the lines to write."""
    if not found:
        return Text("\nNothing that was tried fits: rent larger GPUs, or train a smaller model.", style="bold")
    rows: list[RenderableType] = [Text("\nwhat would fit, the smallest change first", style="bold")]
    for number, other in enumerate(found, 1):
        gpus = f"--gpus {other.num_gpus}, " if other.num_gpus != plan.num_gpus else ""
        words = (
            f"{number}. {gpus}{other.memory.total / GIB:.1f} GiB a GPU, "
            f"{_figure(other.samples_per_s)} samples a second, {_duration(other.days)}"
        )
        rows += [Text(words), Padding(Text(_yaml(other.changes) or "(nothing in the recipe)"), (0, 0, 0, 5))]
    return Group(*rows)


def _yaml(changes: Changes) -> str:
    """Changes by dotted name as the lines of a recipe."""
    tree: dict[str, Any] = {}
    for name, value in changes.items():
        *parents, last = name.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    lines = [
        f"{key}: {yaml.safe_dump(value, default_flow_style=True, width=200).strip()}" for key, value in tree.items()
    ]
    return "\n".join(lines)
