"""`vla parity`: prove that weights compute here what they computed where the case was recorded."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recipes.loading import RecipeError

if TYPE_CHECKING:
    from vla.models.pi05.parity import Parity

_PARITY = """examples:
  vla parity --weights pi05_base/model.safetensors --case recorded.npz
  vla parity --weights pi05_base --case recorded.npz       a folder, with shards or without

docs/parity.md says what a case holds and how to record one. Exit status: 0 within tolerance, 1 beyond it, 2 when
weights and case do not fit.
"""


def add_parity_command(commands: Any) -> None:
    """Add `parity` to the commands of `vla`."""
    words = "compare π0.5 weights with answers recorded from another implementation"
    parity = commands.add_parser(
        "parity",
        help=words,
        description=words[0].upper() + words[1:] + ".",
        epilog=_PARITY,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parity.add_argument("--weights", type=Path, required=True, help="a .safetensors file, or the folder of one")
    parity.add_argument("--case", type=Path, required=True, help="an .npz file of inputs and recorded answers")
    parity.set_defaults(handler=_parity)


def _parity(options: argparse.Namespace, overrides: dict[str, object]) -> None:
    if overrides:
        raise RecipeError(f"`vla parity` takes no overrides, but got {', '.join(overrides)}.")
    for flag, path in (("--weights", options.weights), ("--case", options.case)):
        if not path.exists():
            raise RecipeError(f"{flag} {path}: there is no such file.")
    from vla.models.pi05.parity import compare

    parity = compare(options.weights, options.case)
    sys.stdout.write("\n".join([*_model_lines(parity), "", *_table(parity)]) + "\n")
    beyond = [f"{d.quantity} {d.largest:.1e} (at most {d.tolerance:.0e})" for d in parity.differences if not d.within]
    if beyond:
        raise RuntimeError(f"beyond tolerance: {', '.join(beyond)}.")


def _model_lines(parity: "Parity") -> list[str]:
    config = parity.config
    vision, vlm, expert = config.vision, config.vlm, config.expert
    tried = f" (the best of {parity.heads_tried} choices of heads)" if parity.heads_tried > 1 else ""
    return [
        f"π0.5 of {parity.parameters:,} parameters",
        f"  vision  {vision.depth} x {vision.width}, MLP {vision.mlp_dim}, {vision.num_heads} heads, "
        f"{vision.image_size} px in patches of {vision.patch_size}",
        f"  VLM     {vlm.depth} x {vlm.width}, MLP {vlm.mlp_dim}, vocabulary {config.vocab_size}",
        f"  expert  {expert.depth} x {expert.width}, MLP {expert.mlp_dim}, "
        f"{config.horizon} actions of {config.action_dim}",
        f"  heads   {vlm.num_heads}, {vlm.num_kv_heads} for keys, {vlm.head_dim} wide{tried}",
        f"stored as {parity.precision}",
        "names",
        *(f"  {line}" for line in parity.names.lines()),
        *([f"of the case, not read: {', '.join(parity.unread)}"] if parity.unread else []),
    ]


def _table(parity: "Parity") -> list[str]:
    rows = [("quantity", "largest", "tolerance", "", "measure", "compared", "largest at")]
    for d in parity.differences:
        verdict = "ok" if d.within else "BEYOND"
        rows.append(
            (d.quantity, f"{d.largest:.1e}", f"{d.tolerance:.0e}", verdict, d.measure, f"{d.compared:,}", d.where)
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
