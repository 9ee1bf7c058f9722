"""A rank that trains a recipe on a stand-in for its data and counts what torch's allocator gave out meanwhile.

    python plan_worker.py '[{"recipe": "...yaml", "overrides": {...}, "result": "/file.json"}, ...]'

The count is the profiler's, which sees every allocation of the process, whoever asked for it: the plan's own
bookkeeping has no part in it.
"""

import gc
import json
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from torch.nn.parallel import distributed
from torch.profiler import ProfilerActivity, profile, record_function

from recipes.loading import load_recipe
from vla.train.distributed import World, join, leave
from vla.train.ema import Ema
from vla.train.parallel import place

_LAST = "the update that is looked at"


def measure(recipe: Any, world: World) -> int:
    """The most bytes of tensors there were at once in the third update."""
    logging.disable(logging.WARNING)
    loop = recipe.loop
    stage, mixture = recipe.stand_in()
    micro_batch = loop.batch_size // (loop.accumulate * world.size)
    gc.collect()  # what an earlier measurement left must not be freed in this one
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        engine = place(stage, loop, recipe.optim, recipe.parallel, world)
        ema = None if loop.ema is None else Ema(engine.weights(), loop.ema)
        for update in range(3):
            gc.collect()  # DeepSpeed leaves copies in cycles, which Python clears when it pleases
            with record_function(_LAST if update == 2 else "an update"):
                for micro in range(loop.accumulate):
                    batch = mixture.batch(range(micro_batch)).to(world.device)
                    with engine.forward(last=micro == loop.accumulate - 1):
                        loss, metrics = stage.loss(engine.network, batch)
                    engine.backward(loss)
                    del loss, metrics
                engine.update(1e-3, True)
                if ema is not None:
                    ema.update(engine.weights())
    return _highest(seen)


def _highest(seen: profile) -> int:
    results: Any = seen.profiler  # its memory events are in no stub
    events = results.kineto_results.events()
    (span,) = ((e.start_ns(), e.start_ns() + e.duration_ns()) for e in events if e.name() == _LAST)
    live = highest = 0
    for at, size in sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]"):
        live += size
        if span[0] <= at <= span[1]:
            highest = max(highest, live)
    return highest


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    # All ranks start alike anyway. DDP's first broadcast is freed by one of gloo's threads now and then, which the
    # profiler does not see: it would count the copies as held for good.
    distributed._sync_module_states = lambda *_, **__: None  # pyright: ignore[reportAttributeAccessIssue]
    torch.set_num_threads(1)
    for job in json.loads(sys.argv[1]):
        recipe = load_recipe(job["recipe"], job["overrides"])
        world = join(recipe.parallel)
        measured = measure(recipe, world)
        if world.is_main:
            Path(job["result"]).write_text(json.dumps({"bytes": measured, "world": world.size}))
        world.barrier()
    leave()
