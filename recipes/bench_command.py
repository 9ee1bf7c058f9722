"""`vla bench ...`: measure what must stay fast."""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recipes.loading import RecipeError

if TYPE_CHECKING:
    from eval.latency import CaseResult, Report, Timing
    from vla.models.pi05.config import Pi05Config

_LATENCY = """examples:
  vla bench latency                                        depth 4, VLM 256 wide, on the CPU
  vla bench latency --depth 2 --width 2048 --batch 1
  vla bench latency --depth 18 --width 2048 --device cuda --cameras 1 2 3 --json h200.json
  vla bench latency --weights pi05.safetensors --device cuda --compiled

Runs this project, LeRobot and openpi in turn on the same weights and inputs, and compares their actions. A peer runs in
the interpreter that VLA_LEROBOT_PYTHON or VLA_OPENPI_PYTHON names, and is left out if it names none. Cases: so many
cameras of three slots with 70 of 200 tokens of text, and one in which there is nothing to drop.
"""


def add_bench_command(commands: Any) -> None:
    """Add `bench` to the commands of `vla`."""
    words = "measure what must stay fast"
    bench = commands.add_parser("bench", help=words, description=words.capitalize() + ".")
    kinds = bench.add_subparsers(required=True, metavar="WHAT")
    # With another prefix, `--help` and the like are plain words here and go on to the benchmark.
    data = kinds.add_parser("data", help="reading and loading of data sets", add_help=False, prefix_chars="+")
    data.add_argument("arguments", nargs=argparse.REMAINDER, help="passed on to the benchmark")
    data.set_defaults(handler=_data)
    _add_latency(kinds)


def _add_latency(kinds: Any) -> None:
    words = "how long a chunk of actions takes, beside LeRobot and openpi"
    latency = kinds.add_parser(
        "latency",
        help=words,
        description=words.capitalize() + ".",
        epilog=_LATENCY,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = latency.add_argument
    add("--weights", type=Path, help="a .safetensors file or the folder of one; random weights otherwise")
    add("--depth", type=int, default=4, help="layers of random weights (default %(default)s; published 18)")
    add("--width", type=int, default=256, help="of their VLM (default %(default)s; published 2048)")
    add("--vision-heads", type=int, help="of --weights, if its widths are not the published ones")
    add("--head-dim", type=int, help="of --weights, if its widths are not the published ones")
    add("--cameras", type=int, nargs="+", default=[2], choices=[1, 2, 3], help="cameras there (default 2)")
    add("--batch", type=int, nargs="+", default=[1], help="observations at once (default 1)")
    add("--device", default="cpu", help="cpu (the default), cuda or cuda:1")
    add("--dtype", choices=["float32", "bfloat16"], help="by default bfloat16 on CUDA and float32 on a CPU")
    add("--compiled", action="store_true", help="every contestant with torch.compile")
    add("--threads", type=int, default=1, help="of every contestant on the CPU (default %(default)s)")
    add("--peers", nargs="*", default=["lerobot", "openpi"], choices=["lerobot", "openpi"], help="default: both")
    add("--rounds", type=int, default=10, help="timed samplings a contestant and case (default %(default)s)")
    add("--json", type=Path, metavar="OUT", help="also write everything measured to this file")
    latency.set_defaults(handler=_latency)


def _data(options: argparse.Namespace, overrides: dict[str, object]) -> None:
    import runpy

    script = Path(__file__).parents[1] / "benchmarks" / "data_loading.py"
    if not script.is_file():
        raise RecipeError("benchmarks come with the source tree only: clone the repository and run `vla bench` there.")
    sys.argv = [str(script), *options.arguments]
    runpy.run_path(str(script), run_name="__main__")


def _latency(options: argparse.Namespace, overrides: dict[str, object]) -> None:
    if overrides:
        raise RecipeError(f"`vla bench latency` has no option --{', --'.join(overrides)}; see its --help.")
    import torch

    from data_mixtures.storage.whole_file import write_whole
    from eval.latency import Settings, measure
    from eval.latency_cases import Case, write_random_weights

    if options.device.startswith("cuda") and not torch.cuda.is_available():
        raise RecipeError(f"--device {options.device}: torch sees no CUDA device here.")
    dtype = options.dtype or ("float32" if options.device == "cpu" else "bfloat16")
    peers = tuple(options.peers)
    settings = Settings(options.device, dtype, options.compiled, options.threads, options.rounds, peers)
    config = _config(options)
    cases = [
        Case(batch, cameras, tokens)
        for batch in options.batch
        for cameras, tokens in [*((number, 70) for number in options.cameras), (3, config.max_text_tokens)]
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weights = options.weights
        if weights is None:
            weights = folder / "random.safetensors"
            write_random_weights(config, weights, getattr(torch, dtype))
        report = measure(weights, config, cases, settings, folder, _say)
    sys.stdout.write("\n".join(_lines(report)) + "\n")
    if options.json:
        write_whole(options.json, json.dumps(report.json(), indent=1) + "\n")


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _config(options: argparse.Namespace) -> "Pi05Config":
    from eval.latency_cases import reduced
    from vla.models.pi05.config import Pi05Config
    from vla.models.pi05.convert import WeightFile
    from vla.models.pi05.sizes import config_of, head_choices

    if options.weights is None:
        return reduced(options.depth, options.width)
    if not options.weights.exists():
        raise RecipeError(f"--weights {options.weights}: there is no such file.")
    weights = WeightFile(options.weights)
    choices = head_choices(weights, options.vision_heads, options.head_dim)
    if len(choices) > 1:
        raise RecipeError(
            f"--weights {options.weights}: its shapes fit {len(choices)} choices of heads, for example {choices[0]}; "
            "give --vision-heads and --head-dim."
        )
    published = Pi05Config()
    return config_of(weights, choices[0], published.vision.image_size, published.horizon)


def _lines(report: "Report") -> list[str]:
    settings, config = report.settings, report.config
    lines = [
        f"{report.hardware}, {settings.threads} threads, {settings.dtype}{', compiled' if settings.compiled else ''}",
        f"vision {config.vision.depth} x {config.vision.width}, VLM {config.vlm.depth} x {config.vlm.width}, "
        f"expert {config.expert.depth} x {config.expert.width}, {config.num_steps} steps",
    ]
    for result in report.results:
        lines += ["", result.case.words(config), *_timings(result), *_parts(result)]
    return [
        *lines,
        "",
        f"limits: {report.limits.flops:.3g} FLOP/s, {report.limits.bytes:.3g} B/s ({report.limits.source})",
    ]


def _timings(result: "CaseResult") -> list[str]:
    ours = result.timings[0]
    lines = [f"  {'':8} {'median':>10} {'p90':>10} {'ours is':>9}  actions differ by"]
    for timing in result.timings:
        if timing.skipped:
            lines.append(f"  {timing.name:8} not timed: {timing.skipped}")
            continue
        lines.append(f"  {timing.name:8} {_ms(timing.median)} {_ms(timing.p90)} {_against(timing, ours)}")
    return lines


def _against(timing: "Timing", ours: "Timing") -> str:
    return "" if timing is ours else f"{timing.median / ours.median:7.2f} x  {timing.difference:.1e}"


def _parts(result: "CaseResult") -> list[str]:
    floor = sum(result.floor.values())
    parts = ", ".join(f"{part} {_ms(result.parts[part]).strip()}" for part in result.parts)
    share = floor / result.timings[0].median
    return [f"  ours by part: {parts}", f"  floor {_ms(floor).strip()}: {share:.0%} of it reached"]


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:7.2f} ms"
