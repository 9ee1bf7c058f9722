"""Worker processes: the same batches as without, errors that arrive, deaths that are named, nothing left behind."""

import dataclasses
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from counting_source import CountingSource

from data_mixtures.batch import Batch
from data_mixtures.defects import BadEpisodeError
from data_mixtures.sampling.loader import Loader, WorkerDiedError

CUT = {"global_batch": 8, "accumulate": 2, "rank": 1, "world": 2}
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than cores


def assert_same(first: Batch, second: Batch) -> None:
    for field in dataclasses.fields(Batch):
        one, other = getattr(first, field.name), getattr(second, field.name)
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other, field.name


def test_four_workers_give_the_same_batches_survive_ctrl_c_and_leave_nothing() -> None:
    before = set(multiprocessing.active_children())
    source = CountingSource(size=256)  # large enough for shared memory
    with (
        Loader(source, **CUT, first_step=3, workers=4) as loader,
        Loader(source, **CUT, first_step=3) as threaded,
        Loader(source, **CUT, first_step=3, prefetch=0) as direct,
    ):
        workers = set(multiprocessing.active_children()) - before
        assert len(workers) == 4
        for step in range(3, 9):
            for micro in range(2):
                batch = next(loader)
                assert batch.sample_ids.tolist() == list(direct.ids(step, micro))
                assert batch.images.is_shared()
                assert_same(batch, next(threaded))
                assert_same(batch, next(direct))
            for worker in workers:
                assert worker.pid is not None
                os.kill(worker.pid, signal.SIGINT if step % 2 else signal.SIGTERM)
        assert loader.wait_seconds > 0
    assert not any(worker.is_alive() for worker in workers)
    assert set(multiprocessing.active_children()) == before
    with pytest.raises(RuntimeError, match="the loader is closed"):
        next(loader)


def test_one_worker_resumes_passes_errors_on_and_its_death_is_named() -> None:
    source = CountingSource(fails_at=8 * 6 + 3, dies_at=8 * 8 + 3)
    cut = {"global_batch": 8, "accumulate": 1, "rank": 0, "world": 1, "prefetch": 1}
    with Loader(source, **cut, first_step=5, workers=1) as loader:
        assert_same(next(loader), source.batch(range(40, 48)))
        with pytest.raises(BadEpisodeError, match="the film ends in the middle") as raised:
            next(loader)
        assert raised.value.defect.kind == "truncated"
        assert "for the samples 48..55" in raised.value.__notes__[0]
        assert "counting_source.py" in raised.value.__notes__[0]
        assert_same(next(loader), source.batch(range(56, 64)))
        with pytest.raises(
            WorkerDiedError, match=r"1 of 1 data workers died: process \d+ was ended by SIGKILL, as the"
        ):
            next(loader)


def test_a_source_that_cannot_be_sent_is_refused() -> None:
    class Local(CountingSource):
        pass

    with pytest.raises(ValueError, match=r"workers is above 0, but Local cannot be sent .* set workers to 0"):
        Loader(Local(), **CUT, first_step=0, workers=1)
    with pytest.raises(ValueError, match="workers is 1 with prefetch 0"):
        Loader(CountingSource(), **CUT, first_step=0, workers=1, prefetch=0)


def test_closing_ends_the_thread() -> None:
    before = set(threading.enumerate())
    loader = Loader(CountingSource(), **CUT, first_step=0)
    next(loader)
    (thread,) = set(threading.enumerate()) - before
    loader.close()
    assert not thread.is_alive()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("workers", [0, 1])
def test_batches_for_a_gpu_are_pinned(workers: int) -> None:
    torch.zeros(1, device="cuda")
    with Loader(CountingSource(), **CUT, first_step=0, workers=workers) as loader:
        batch = next(loader)
        assert batch.images.is_pinned()
        assert batch.state.is_pinned()
        assert_same(batch.to("cuda").to("cpu"), CountingSource().batch(loader.ids(0, 0)))


FORGETFUL = """
import multiprocessing, os, signal, sys
from counting_source import CountingSource
from data_mixtures.sampling.loader import Loader
if __name__ == "__main__":
    loader = Loader(CountingSource(), global_batch=64, accumulate=1, rank=0, world=1, first_step=0, workers=2)
    next(loader)
    print(*(process.pid for process in multiprocessing.active_children()), flush=True)
    if sys.argv[1] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
@pytest.mark.parametrize("end", ["killed", "forgets to close"])
def test_workers_never_outlive_the_program(tmp_path: Path, end: str) -> None:
    """They ignore SIGTERM and may be waiting for room in a pipe: both would keep them, or the program, for ever."""
    script = tmp_path / "forgetful.py"
    script.write_text(FORGETFUL)
    paths = os.pathsep.join([str(Path(__file__).parents[2]), str(Path(__file__).parent)])
    ran = subprocess.run(
        [sys.executable, script, end],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == (-signal.SIGKILL if end == "killed" else 0)
    workers = [int(pid) for pid in ran.stdout.split()]
    assert len(workers) == 2
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in workers):
        assert time.monotonic() < deadline
        time.sleep(0.1)
