"""The one training loop: every stage, every kind of parallelism, from the first step or from where it stopped."""

import math
import time
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor

from data_mixtures.sampling.loader import BatchSource, Loader
from vla.train.best import Best
from vla.train.checkpoint import Checkpoints, Progress, write_json
from vla.train.config import LoopConfig, OptimConfig, ParallelConfig
from vla.train.distributed import World, finite_everywhere, join
from vla.train.ema import Ema, local
from vla.train.engine import Engine
from vla.train.export import export_model
from vla.train.interrupt import Interrupted, Interrupts
from vla.train.optim import learning_rate
from vla.train.parallel import place
from vla.train.stage import Evaluator, Metrics, Stage
from vla.train.tracking import MetricsFile, ProgressBar, Rate, Spent, restart_peak_memory


class NonFiniteError(RuntimeError):
    """Several steps in a row had a loss or a gradient that is not finite.

    Attributes:
        sample_ids: The samples of those steps.
    """

    def __init__(self, message: str, sample_ids: list[int]) -> None:
        super().__init__(message)
        self.sample_ids = sample_ids


def train(
    stage: Stage,
    mixture: BatchSource,
    loop: LoopConfig,
    optim: OptimConfig,
    parallel: ParallelConfig,
    run_dir: Path,
    evaluators: Sequence[Evaluator] = (),
) -> None:
    """Train `stage` on `mixture` until `loop.steps`, going on from the run folder's last checkpoint if it has one.

    Leaves in `run_dir`: metrics.jsonl, checkpoints/, model/ (weights and the stage's assets; with `loop.keep_best`
    those of the best evaluation) and, last, done.json. A run that is done returns at once.

    Raises:
        ValueError: A field of the recipe is impossible here, or is not what the run began with; raised before any step.
        NonFiniteError: `loop.max_bad_steps` steps in a row were not finite.
        Interrupted: SIGINT or SIGTERM came; the run is saved and the same call goes on.
    """
    if (run_dir / "done.json").exists():
        return
    began = time.perf_counter()
    world = join(parallel)
    loop.check_batch(world.size)
    if loop.threads is not None:
        torch.set_num_threads(loop.threads)
    restart_peak_memory(world.device)

    with ExitStack() as cleanup:
        interrupts = cleanup.enter_context(Interrupts())
        engine = place(stage, loop, optim, parallel, world)
        ema = None if loop.ema is None else Ema(engine.weights(), loop.ema)
        averages = {} if ema is None else ema.averages
        settings = {"loop.seed": loop.seed, "loop.batch_size": loop.batch_size, "loop.ema": loop.ema}
        checkpoints = Checkpoints(
            run_dir / "checkpoints",
            loop.keep_last,
            settings | engine.checkpoint_settings() | stage.settings(),
            world,
        )
        progress = checkpoints.resume(lambda folder: engine.load(folder, averages))
        spent = Spent(began, progress, world)
        kept, model = run_dir / "best", run_dir / "model"
        best = None if loop.keep_best is None else Best(kept, model, loop.keep_best, progress.step, world)

        log = cleanup.enter_context(MetricsFile(run_dir / "metrics.jsonl", progress.step, world.is_main))
        bar = cleanup.enter_context(ProgressBar(run_dir.name, loop.steps, progress.step, world.is_main, loop.log_every))
        loader = cleanup.enter_context(
            Loader(
                mixture,
                global_batch=loop.batch_size,
                accumulate=loop.accumulate,
                rank=world.rank,
                world=world.size,
                first_step=progress.step,
                workers=loop.loader_workers,
            )
        )
        rate = Rate(progress.step, loop.batch_size)

        for step in range(progress.step + 1, loop.steps + 1):
            means = Means()
            for micro in range(1, loop.accumulate + 1):
                batch = next(loader).to(world.device)
                with engine.forward(last=micro == loop.accumulate):
                    loss, metrics = stage.loss(engine.network, batch)
                engine.backward(loss)
                means.add(loss, metrics)
            values, stopping = means.over_ranks(world, interrupts.asked)
            lr = learning_rate(optim, step, loop.steps)
            finite = math.isfinite(values["loss"])
            grad_norm = engine.update(lr, finite)
            good = finite and math.isfinite(grad_norm)  # the same on every rank: both are means over all
            if good and ema is not None:
                ema.update(engine.weights())
            progress.count(step, good)
            if progress.bad_in_row == loop.max_bad_steps:
                raise _non_finite(loop, step)

            evaluating = loop.eval_every > 0 and step % loop.eval_every == 0
            evaluations = evaluate(engine, ema, evaluators) if evaluating else {}
            if best is not None and best.takes(step, evaluations):
                export_averaged(engine, ema, stage, best.folder, world)
            if step % loop.log_every == 0 or step in (1, loop.steps) or evaluating or not good:
                timing = rate.since_last(step, loader.wait_seconds)
                timing["seconds"] = spent.seconds()
                log.write(step, values | {"lr": lr, "grad_norm": grad_norm} | evaluations | timing)
            bar.show(step, values["loss"])

            stopping = stopping and step < loop.steps
            if stopping or (loop.save_every > 0 and step % loop.save_every == 0):
                log.sync()
                spent.record(loader.wait_seconds)
                checkpoints.save(progress, lambda folder: save_finite(engine, averages, folder, world))
            if stopping:
                raise stopped(run_dir, step, loop.steps, world)

        require_finite(engine, averages, world)
        if best is None:
            export_averaged(engine, ema, stage, model, world)
        else:
            best.become_model()
        log.sync()
        spent.record(loader.wait_seconds)
        if world.is_main:
            write_json(run_dir / "done.json", summary(progress, parallel, world))
        world.barrier()


class Means:
    """Means of the loss and the metrics over an update's micro-batches, then over the ranks."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._rows: list[Tensor] = []

    def add(self, loss: Tensor, metrics: Metrics) -> None:
        """Take in one micro-batch; nothing is copied off the device yet."""
        self._names = ["loss", *metrics]
        self._rows.append(torch.stack([loss.detach().float(), *(m.detach().float() for m in metrics.values())]))

    def over_ranks(self, world: World, asked: bool) -> tuple[dict[str, float], bool]:
        """The means, and whether any rank was asked to stop: one exchange, so all ranks decide alike."""
        means = torch.stack(self._rows).double().mean(dim=0).tolist()
        stopping, *agreed = world.mean([float(asked), *means])
        return dict(zip(self._names, agreed, strict=True)), stopping > 0


def _non_finite(loop: LoopConfig, step: int) -> NonFiniteError:
    ids = list(range((step - loop.max_bad_steps) * loop.batch_size, step * loop.batch_size))
    return NonFiniteError(
        f"loss or gradient was not finite in {loop.max_bad_steps} steps in a row (loop.max_bad_steps), "
        f"{step - loop.max_bad_steps + 1} to {step}, over sample ids {ids[0]} to {ids[-1]}: look at those samples, "
        "or lower optim.lr. The last checkpoint is from before the run went wrong.",
        ids,
    )


@torch.no_grad()
def evaluate(engine: Engine, ema: Ema | None, evaluators: Sequence[Evaluator]) -> dict[str, float]:
    """Run the evaluators on every rank, with the averaged weights if there are any: those are what is exported."""
    training = [m for m in engine.module.modules() if m.training]
    engine.module.eval()
    with nullcontext() if ema is None else ema.swapped(engine.weights()), engine.forward(last=True):
        values = {f"eval/{name}": value for e in evaluators for name, value in e.run(engine.module)}
        engine.forget_gathered()
    for module in training:
        module.training = True
    return values


def export_averaged(engine: Engine, ema: Ema | None, stage: Stage, folder: Path, world: World) -> None:
    """Export the weights, or their averages if there are any."""
    with nullcontext() if ema is None else ema.swapped(engine.weights()):
        export_model(engine, stage, folder, world)


def require_finite(engine: Engine, averages: dict[str, Tensor], world: World) -> None:
    """Raise NonFiniteError if any rank holds a weight, moment or average that is not finite."""
    if not finite_everywhere(world, [*engine.held_tensors(), *(local(a) for a in averages.values())]):
        raise NonFiniteError("the weights or the optimiser's state are not finite: nothing was written", [])


def save_finite(engine: Engine, averages: dict[str, Tensor], folder: Path, world: World) -> None:
    """Write a checkpoint, unless what it would hold is not finite."""
    require_finite(engine, averages, world)
    engine.save(folder, averages)


def stopped(run_dir: Path, step: int, steps: int, world: World) -> Interrupted:
    """Say how to go on, and the exception that ends the program with code 130."""
    message = f"stopped after step {step} of {steps}, saved in {run_dir}: run the same command again to go on"
    if world.is_main:
        Console(stderr=True, highlight=False).print(message, soft_wrap=True)
    return Interrupted(message)


def summary(progress: Progress, parallel: ParallelConfig, world: World) -> dict[str, object]:
    """What done.json holds."""
    return {
        "wall_seconds": progress.wall_seconds,
        "peak_memory_bytes": progress.peak_memory_bytes,
        "data_wait_share": progress.wait_seconds / progress.wall_seconds,
        "skipped_steps": progress.skipped_steps,
        "parallel": parallel.name,
        "world_size": world.size,
    }
