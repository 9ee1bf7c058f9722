"""Any data set to training shards, once: in parallel, resumable, the originals untouched.

Episodes are cut into parts by their number alone, and each part is a pure function of its episodes, so that the result
does not depend on how many processes worked on it, nor on where one was killed.
"""

import fcntl
import json
import math
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing import connection, get_context, parent_process
from pathlib import Path

import numpy as np
import torch

from data_mixtures.defects import BadEpisodeError
from data_mixtures.readers.reader import Reader
from data_mixtures.shards import layout
from data_mixtures.shards.assembly import assemble
from data_mixtures.shards.encoder import PixelFormat, settings
from data_mixtures.shards.part import PartReport, Plan, fingerprint_of, write_part
from data_mixtures.storage.whole_file import write_whole

DEFAULT_SIZE = 256
_MAX_PARTS = 1024
_BYTES_A_PIXEL = 0.06  # of disk; measured on camera pictures 0.02, 4:4:4 0.05
_SAMPLED_EPISODES = 32


@dataclass(frozen=True)
class IngestProgress:
    """How far an ingest is.

    Attributes:
        num_episodes: to be read in all; `done_episodes` of them are, the quarantined ones included.
        num_rows: frames written so far, a camera.
        num_quarantined: episodes left out so far.
    """

    done_episodes: int
    num_episodes: int
    num_rows: int
    num_quarantined: int


def ingest(
    open_reader: Callable[[], Reader],
    target: Path | str,
    *,
    name: str,
    size: int = DEFAULT_SIZE,
    cameras: Sequence[str] | None = None,
    episodes: tuple[int, int] | None = None,
    pixel_format: PixelFormat = "yuv420p",
    workers: int = 1,
    strict: bool = False,
    on_progress: Callable[[IngestProgress], None] = lambda _: None,
) -> layout.ShardsMeta:
    """Write the data set to the folder `target`, which appears when all is done.

    Until then the work lies beside it, in `.<target>.ingest`; the same call after a kill goes on from there, and a
    call on a finished folder returns at once.

    Args:
        open_reader: opens the data set; called in every worker, so it must be importable there.
        target: the folder to make.
        name: the data set's, for messages and the index.
        size: height and width of the stored frames in pixels, even; aspect kept, black around.
        cameras: those to keep; all when None.
        episodes: (first, one past the last) of the reader's; all when None.
        pixel_format: "yuv444p" keeps the colours of small renders sharp, at twice the decoding time.
        workers: processes; 1 works in this one.
        strict: stop at the first episode or file that cannot be used.
        on_progress: called after every part.

    Raises:
        BadEpisodeError: an episode cannot be used, and `strict` is set.
        ValueError: the data set, a value or the disk does not allow it, or another ingest is at work.
    """
    target = Path(target)
    reader = open_reader()
    plan = _plan(reader, name, size, cameras, episodes, pixel_format)
    if target.exists():
        return _finished(target, plan)
    if strict and reader.defects:
        defect = reader.defects[0]
        raise BadEpisodeError(defect.key, defect.kind, defect.detail)
    work = target.with_name(f".{target.name}.ingest")
    work.mkdir(parents=True, exist_ok=True)
    with _alone(work):
        if target.exists():  # another ingest ended since
            shutil.rmtree(work)
            return _finished(target, plan)
        if not (work / "whole" / layout.FILE_NAME).exists():
            _agree(work, plan)
            _check_disk(work, reader, plan)
            _write_parts(reader, open_reader, plan, work / "parts", workers, strict, on_progress)
            assemble(plan, work / "parts", work / "whole", reader.defects)
        os.replace(work / "whole", target)
        shutil.rmtree(work)
    return layout.read_meta(target)


def _plan(
    reader: Reader,
    name: str,
    size: int,
    cameras: Sequence[str] | None,
    episodes: tuple[int, int] | None,
    pixel_format: PixelFormat,
) -> Plan:
    if size < 16 or size % 2:
        raise ValueError(f"size is {size}: H.264 needs an even size, at least 16")
    chosen = list(reader.cameras if cameras is None else cameras)
    if missing := [camera for camera in chosen if camera not in reader.cameras]:
        raise ValueError(f"cameras has {missing}, {reader.root} has {list(reader.cameras)}")
    first, stop = episodes or (0, len(reader))
    if not 0 <= first < stop <= len(reader):
        raise ValueError(f"episodes is {first}..{stop}, {reader.root} has 0..{len(reader)}: name a part of it")
    return Plan(
        name=name,
        source_fingerprint=reader.fingerprint,
        size=size,
        pixel_format=pixel_format,
        cameras=chosen,
        first=first,
        stop=stop,
        episodes_per_part=math.ceil((stop - first) / _MAX_PARTS),
        settings=settings(pixel_format),
    )


def _finished(target: Path, plan: Plan) -> layout.ShardsMeta:
    meta = layout.read_meta(target)
    if meta.fingerprint != fingerprint_of(plan):
        raise ValueError(f"{target} was made from other data or settings: delete it, or name another folder")
    return meta


def _agree(work: Path, plan: Plan) -> None:
    """Note the plan, or see that an earlier run had the same one; clear what it left unfinished."""
    path = work / "plan.json"
    if not path.exists():
        write_whole(path, json.dumps(asdict(plan), indent=1))
    started = json.loads(path.read_text())
    if different := [field for field, value in asdict(plan).items() if started.get(field) != value]:
        was = {field: started.get(field) for field in different}
        raise ValueError(f"{work} holds an ingest begun with {was}: delete it, or go on with the same values")
    for aside in work.glob("parts/.part-*"):
        shutil.rmtree(aside)


def _check_disk(work: Path, reader: Reader, plan: Plan) -> None:
    """Raise ValueError where the disk cannot hold what a few episodes' lengths let expect."""
    lengths = []
    for number in np.linspace(plan.first, plan.stop - 1, _SAMPLED_EPISODES).astype(int).tolist():
        try:
            lengths.append(len(reader.episode(number)))
        except BadEpisodeError:
            continue
    if not lengths:
        return
    rows = float(np.mean(lengths)) * (plan.stop - plan.first)
    packets = rows * (plan.size**2 * _BYTES_A_PIXEL + 9) * len(plan.cameras)
    numerics = rows * 2 * 5 * (46 + 44)  # parts and whole; float32 and a mask
    done = sum(path.stat().st_size for path in work.rglob("*") if path.is_file())
    needed, free = packets + numerics - done, shutil.disk_usage(work).free
    if needed > free:
        raise ValueError(
            f"{work.parent} has {free / 1e9:.3g} GB free, {needed / 1e9:.3g} GB are needed: "
            "free some, name a folder on another disk, or lower the size"
        )


def _write_parts(
    reader: Reader,
    open_reader: Callable[[], Reader],
    plan: Plan,
    parts: Path,
    workers: int,
    strict: bool,
    on_progress: Callable[[IngestProgress], None],
) -> None:
    parts.mkdir(exist_ok=True)
    done = IngestProgress(0, plan.stop - plan.first, 0, 0)
    if workers <= 1:
        reports = (write_part(reader, plan, part, parts, strict) for part in range(plan.num_parts))
    else:
        reports = _in_processes(open_reader, plan, parts, workers, strict)
    for report in reports:
        done = IngestProgress(
            done.done_episodes + len(report.keys) + len(report.quarantined),
            done.num_episodes,
            done.num_rows + report.num_rows,
            done.num_quarantined + len(report.quarantined),
        )
        on_progress(done)


def _in_processes(
    open_reader: Callable[[], Reader], plan: Plan, parts: Path, workers: int, strict: bool
) -> Iterator[PartReport]:
    """Reports of all parts, as they are done."""
    started = (open_reader, plan, parts, strict)
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_start_worker, initargs=started)
    pending: set[Future[PartReport]] = set()
    try:
        pending = {pool.submit(_work, part) for part in range(plan.num_parts)}
        while pending:
            finished, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in finished:
                yield future.result()
    except BrokenProcessPool as error:
        raise RuntimeError(
            "a worker process was killed, most often for want of memory: run the same command again, it goes on; "
            "fewer workers need less"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


_worker: tuple[Reader, Plan, Path, bool] | None = None


def _start_worker(open_reader: Callable[[], Reader], plan: Plan, parts: Path, strict: bool) -> None:
    global _worker
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _worker = (open_reader(), plan, parts, strict)


def _end_with_parent() -> None:
    """Workers of a killed ingest must not go on beside the next one's."""
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


def _work(part: int) -> PartReport:
    assert _worker is not None
    reader, plan, parts, strict = _worker
    return write_part(reader, plan, part, parts, strict)


@contextmanager
def _alone(work: Path) -> Iterator[None]:
    with (work / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # released by the kernel however the process ends
        except BlockingIOError:
            raise ValueError(f"another ingest is at work in {work}: wait for it, or end it") from None
        yield
