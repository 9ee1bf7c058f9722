"""Everything that recorded data do wrong: found, left out under its name, and training goes on; `strict` stops."""

import dataclasses
import filecmp
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import agibot_files
import lerobot_v2_files as v2
import numpy as np
import pyarrow as pa
import pytest
import rlds_files
import torch
from recorded import moving_frames, write_dataset

from data_mixtures.batch import Batch
from data_mixtures.config import DatasetConfig, MixtureConfig, WindowConfig
from data_mixtures.defects import BadEpisodeError
from data_mixtures.lerobot.latent_columns import check_source
from data_mixtures.mixture import Mixture
from data_mixtures.quarantine import read_quarantine
from data_mixtures.readers.lerobot import LeRobotReader
from data_mixtures.readers.rlds import RldsReader
from data_mixtures.sampling.loader import Loader
from data_mixtures.shards.ingest import ingest
from data_mixtures.summaries.inspection import inspect

BAD = "episode_000001"  # of three


def config_of(root: Path, camera: str = "front", decoded: bool = False, **changes: object) -> MixtureConfig:
    window = WindowConfig(frames=2, horizon=4)
    config = MixtureConfig([DatasetConfig(str(root))], [camera], window, 16, decoded_gib=float(decoded))
    return dataclasses.replace(config, **changes)  # pyright: ignore[reportArgumentType]


def assert_same(first: Batch, second: Batch) -> None:
    for field in dataclasses.fields(Batch):
        one, other = getattr(first, field.name), getattr(second, field.name)
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other, field.name


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LeRobot v2.1, three episodes of 12 frames of 32 px."""
    return v2.write_v2(tmp_path_factory.mktemp("sound") / "set", [12, 12, 12])


@pytest.fixture
def root(sound: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(sound, tmp_path / "set", ignore=shutil.ignore_patterns(".cache")))


# ------------------------------------------------------------------ what is found when the data set is opened


def _cut_video(root: Path) -> None:
    path = v2.video_path(root, 1)
    path.write_bytes(path.read_bytes()[:-700])


def _short_video(root: Path) -> None:
    v2.write_video(v2.video_path(root, 1), moving_frames(9, 32, 0))


def _no_video(root: Path) -> None:
    v2.video_path(root, 1).unlink()


def _no_column(root: Path) -> None:
    v2.edit_column(v2.data_path(root, 1), "action", None)


def _misnamed_column(root: Path) -> None:
    path = v2.data_path(root, 1)
    columns = pa.array(list(v2.raw_numerics(12, 1)["action"]))
    v2.edit_column(path, "action", columns, new_name="actions")


def _number(value: float, name: str) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        values = v2.raw_numerics(12, 1)[name]
        values[5, 0 if name != "action" else 6] = value
        v2.edit_column(v2.data_path(root, 1), name, pa.array(list(values)))

    return damage


def _missing_number(root: Path) -> None:
    values = v2.raw_numerics(12, 1)["observation.state"].tolist()
    values[3] = None
    v2.edit_column(v2.data_path(root, 1), "observation.state", pa.array(values))


def _no_rows(root: Path) -> None:
    path = v2.data_path(root, 1)
    table = v2.pq.read_table(path)
    v2.pq.write_table(table.slice(0, 0), path)


def _few_rows(root: Path) -> None:
    path = v2.data_path(root, 1)
    v2.pq.write_table(v2.pq.read_table(path).slice(0, 7), path)


def _cut_table(root: Path) -> None:
    path = v2.data_path(root, 1)
    path.write_bytes(path.read_bytes()[:-20])


AT_OPENING = {
    "a truncated mp4": (_cut_video, "video", "does not open"),
    "fewer frames than rows": (_short_video, "video", "holds 9 frames, 12 are needed"),
    "no video": (_no_video, "unreadable", "No such file"),
    "a missing column": (_no_column, "column", "'action' is missing"),
    "a misnamed column": (_misnamed_column, "column", "did you mean 'actions'"),
    "NaN": (_number(np.nan, "observation.state"), "not_finite", r"state\[5, 0\].* is nan"),
    "infinity": (_number(np.inf, "observation.state"), "not_finite", r"state\[5, 0\].* is inf"),
    "NaN in an action": (_number(np.nan, "action"), "not_finite", r"actions\[5, 6\].* is nan"),
    "a null": (_missing_number, "column", "1 of its values are missing"),
    "an empty episode": (_no_rows, "empty", "no rows"),
    "rows that the metadata count otherwise": (_few_rows, "length", "7 rows, the metadata says 12"),
    "a truncated table": (_cut_table, "truncated", "cannot be read"),
}


@pytest.mark.parametrize("name", AT_OPENING)
def test_an_episode_that_cannot_be_used_is_left_out_by_name(root: Path, tmp_path: Path, name: str) -> None:
    damage, kind, words = AT_OPENING[name]
    damage(root)
    mixture = Mixture(config_of(root), seed=0)
    mixture.quarantine.write_to(tmp_path / "run" / "quarantine.jsonl")
    batch = mixture.batch(range(40))
    assert {mixture.sample_window(sample)[1] for sample in range(40)} == {0, 1}, "places in the index, of two left"
    assert mixture.sources[0].index.source_episode.tolist() == [0, 2]
    assert torch.isfinite(batch.state).all()
    assert batch.camera_mask.all()
    (line,) = (tmp_path / "run" / "quarantine.jsonl").read_text().splitlines()
    said = json.loads(line)
    assert (said["dataset"], said["key"], said["kind"]) == (str(root), BAD, kind)
    with pytest.raises(ValueError, match=f"{root}: {BAD}: .*{words}.*`strict: false`"):
        Mixture(config_of(root, strict=True), seed=0)


def test_a_lying_info_json_costs_nothing(root: Path) -> None:
    """The GR00T sample's: totals, sizes, chunks and cameras that are not so."""
    whole = Mixture(config_of(root), seed=0).batch(range(20))
    info = json.loads((root / "meta/info.json").read_text())
    lies = {"total_episodes": 7, "total_frames": 1, "total_videos": 0, "chunks_size": 2, "fps": 30}
    features = info["features"]
    features["observation.images.front"]["shape"] = [480, 640, 3]
    features["observation.images.top"] = features["observation.images.front"]
    v2.edit_info(root, **lies, features=features)
    mixture = Mixture(config_of(root), seed=0)
    assert_same(mixture.batch(range(20)), whole)
    assert mixture.quarantine.defects == []
    told = " ".join(inspect(LeRobotReader(root), "set", "lerobot").suspicions)
    for name in ("total_episodes is 7", "fps 30", "it is 32 x 32", "'observation.images.top', which has no videos"):
        assert name in told


def test_wrong_flags_cost_nothing_and_are_told(tmp_path: Path) -> None:
    """Published sets never set is_last, or set it too early: the record's own end is believed."""
    episodes = [rlds_files.bridge_episode(8, seed) for seed in range(3)]
    episodes[1]["steps/is_last"] = np.zeros(8, dtype=bool)
    episodes[2]["steps/is_last"] = np.arange(8) == 3
    folder = rlds_files.write_rlds(
        tmp_path / "bridge" / "1.0.0", "bridge_dataset", rlds_files.BRIDGE, {"train": [episodes]}
    )
    mixture = Mixture(config_of(folder, "primary"), seed=0)
    assert (mixture.num_frames, mixture.quarantine.defects) == (24, [])
    suspicions = inspect(RldsReader(folder), "set", "rlds").suspicions
    assert any("is_last is wrong in 2 episodes" in note for note in suspicions)


def _rlds(root: Path) -> Path:
    folder = rlds_files.write_bridge(root / "bridge" / "1.0.0", [8, 9, 10])
    (shard,) = rlds_files.shard_paths(folder)
    content = bytearray(shard.read_bytes())
    content[-5000] ^= 1  # in the last record's data
    shard.write_bytes(content)
    return folder


def _cut_rlds(root: Path) -> Path:
    folder = rlds_files.write_bridge(root / "bridge" / "1.0.0", [8, 9, 10])
    (shard,) = rlds_files.shard_paths(folder)
    shard.write_bytes(shard.read_bytes()[:-5000])
    return folder


def _cut_tar(root: Path) -> Path:
    for episode in (10, 11, 12):
        agibot_files.write_episode(root / "folders", 327, episode, 8)
    agibot_files.write_task_info(root / "folders", 327, [10, 11, 12])
    tars = agibot_files.pack(root / "folders", root / "tars")
    (path,) = (tars / "observations" / "327").glob("*.tar")
    with tarfile.open(path) as tar:
        last = [member for member in tar if member.name.endswith(".mp4")][-1]
    path.write_bytes(path.read_bytes()[: last.offset_data + last.size // 2])
    return tars


@pytest.mark.parametrize(
    ("write", "found"),
    [
        (_rlds, {("train-00000/2", "checksum")}),
        (_cut_rlds, {("bridge_dataset-train.tfrecord-00000-of-00001", "truncated")}),
        (_cut_tar, {("observations/327/10-12.tar", "truncated"), ("327/12", "truncated")}),
    ],
)
def test_shards_and_tars(tmp_path: Path, write: Callable[[Path], Path], found: set[tuple[str, str]]) -> None:
    folder = write(tmp_path)
    mixture = Mixture(config_of(folder, "primary"), seed=0)
    assert {(defect.key, defect.kind) for _, defect in mixture.quarantine.defects} == found
    assert mixture.sources[0].index.num_episodes == 2
    assert mixture.batch(range(20)).camera_mask.all()
    with pytest.raises(ValueError, match="Mend the data set"):
        Mixture(config_of(folder, "primary", strict=True), seed=0)


# ------------------------------------------------------------------ what only decoding finds


def garble(path: Path, share: float = 0.5) -> None:
    """Nonsense in the last part of the pictures; the container still tells everything."""
    content = bytearray(path.read_bytes())
    start = content.index(b"mdat") + 4
    stop = content.index(b"moov") if content.index(b"moov") > start else len(content)
    first = stop - int(share * (stop - start))
    content[first:stop] = bytes([0x55]) * (stop - first)
    path.write_bytes(content)


@pytest.mark.parametrize("decoded", [False, True])
def test_frames_that_do_not_decode(root: Path, tmp_path: Path, decoded: bool) -> None:
    garble(v2.video_path(root, 1))
    mixture = Mixture(config_of(root, decoded=decoded), seed=0)
    mixture.quarantine.write_to(tmp_path / "quarantine.jsonl")
    assert mixture.quarantine.defects == []
    batch = mixture.batch(range(60))
    (line,) = read_quarantine(tmp_path / "quarantine.jsonl")
    assert (line[0], line[1].key, line[1].kind) == (str(root), BAD, "video")
    assert batch.camera_mask.all()
    assert (batch.images.flatten(1).float().std(1) > 0).all()
    with pytest.raises(ValueError, match=f"{root}: {BAD}: .*`strict: false`"):
        Mixture(config_of(root, decoded=decoded, strict=True), seed=0).batch(range(60))


@pytest.mark.parametrize("decoded", [False, True])
def test_what_an_id_draws_does_not_depend_on_what_was_read_before(root: Path, decoded: bool) -> None:
    garble(v2.video_path(root, 1), share=0.03)
    config = config_of(root, decoded=decoded)
    going = Mixture(config, seed=0)
    for first in range(0, 60, 12):
        ids = list(range(first, first + 12))
        batch = going.batch(ids)
        assert_same(batch, Mixture(config, seed=0).batch(ids))
        assert torch.equal(Mixture(config, seed=0).batch(ids[::-1]).images.flip(0), batch.images)
        assert_same(going.batch(ids), batch)
    for sample in range(40):  # alone, some meet only what is sound of the damaged episode
        assert_same(going.batch([sample]), Mixture(config, seed=0).batch([sample]))
    drawn = {going.sample_window(sample) for sample in range(300)}
    of_damaged = sum(going.sources[0].index.source_episode[episode] == 1 for _, episode, _ in drawn)
    assert of_damaged == 0 if decoded else 0 < of_damaged < 12, "decoded as asked, its sound windows are drawn"


def test_shards_give_what_their_checksums_vouch_for(sound: Path, tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    ingest(lambda: LeRobotReader(sound), shards, name="set", size=16)
    whole = Mixture(config_of(shards), seed=0)
    windows = whole.batch_at(range(36)).images
    words = (shards / "shards.json").read_text()
    (shards / "shards.json").write_text(words.replace('"front"', '"fronT"'))
    with pytest.raises(ValueError, match=r"shards.json cannot be read .*SHA-256 differs"):
        Mixture(config_of(shards), seed=0)
    (shards / "shards.json").write_text(words)
    path = shards / "camera-00" / "shard-00000.bin"
    content = bytearray(path.read_bytes())
    offsets = np.load(shards / "camera-00" / "offsets.npy")
    content[int(offsets[12 + 9])] ^= 1  # the second group of pictures of episode 1: its frames 8 to 11
    path.write_bytes(content)
    mixture = Mixture(config_of(shards), seed=0)
    batch = mixture.batch_at(range(36))
    seen = np.array([not (12 <= row < 24 and min(row - 12 + 4, 11) >= 8) for row in range(36)])
    assert batch.camera_mask[:, 0].tolist() == seen.tolist()
    assert torch.equal(batch.images[seen], windows[seen])
    assert not batch.images[~seen].any()
    assert [(d.key, d.kind) for _, d in mixture.quarantine.defects] == [(BAD, "checksum")]
    drawn = [mixture.sample_window(sample) for sample in range(200)]
    assert all(seen[12 * episode + frame] for _, episode, frame in drawn)


def replace(path: Path, source: Path) -> None:
    """Another film of the same length in its place, all at once, as rsync does."""
    aside = path.with_name(".new")
    shutil.copy(source, aside)
    os.replace(aside, path)


def test_a_video_replaced_in_mid_run(root: Path, tmp_path: Path) -> None:
    mixture = Mixture(config_of(root), seed=0)
    mixture.quarantine.write_to(tmp_path / "quarantine.jsonl")
    before = mixture.batch(range(40))
    taken = torch.tensor([mixture.sample_window(sample)[1] == 1 for sample in range(40)])
    replace(v2.video_path(root, 1), v2.video_path(root, 0))
    after = mixture.batch(range(40))
    ((_, defect),) = read_quarantine(tmp_path / "quarantine.jsonl")
    assert (defect.key, defect.kind) == (BAD, "changed")
    assert taken.any()
    assert torch.equal(after.images[~taken], before.images[~taken]), "the others stay as they were"
    assert all(mixture.sample_window(sample)[1] != 1 for sample in range(40))
    assert_same(mixture.batch(range(40)), after)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_a_video_replaced_under_worker_processes(root: Path, tmp_path: Path) -> None:
    mixture = Mixture(config_of(root), seed=0)
    mixture.quarantine.write_to(tmp_path / "quarantine.jsonl")
    cut = {"global_batch": 6, "accumulate": 1, "rank": 0, "world": 1, "first_step": 0}
    with Loader(mixture, **cut, workers=2, prefetch=1) as loader:
        for _ in range(2):
            next(loader)
        replace(v2.video_path(root, 1), v2.video_path(root, 0))
        late = [next(loader) for _ in range(10)][4:]
    mixture.batch(range(40))  # finds it too
    for step, batch in enumerate(late, start=6):
        assert_same(batch, mixture.batch(range(6 * step, 6 * step + 6)))
    ((_, defect),) = read_quarantine(tmp_path / "quarantine.jsonl")
    assert (defect.key, defect.kind) == (BAD, "changed"), "once, by whichever process found it first"


@pytest.mark.parametrize("order", ["weighted", "epochs"])
def test_a_data_set_that_is_gone_stops_the_run(root: Path, order: str) -> None:
    mixture = Mixture(config_of(root, order=order), seed=0)
    mixture.batch(range(6))
    shutil.rmtree(root / "videos")
    with pytest.raises(ValueError, match=rf"nearly every episode of \['{root}'\] is damaged: see .*quarantine.jsonl"):
        mixture.batch(range(6))
    assert {defect.key for _, defect in mixture.quarantine.defects} == {f"episode_00000{n}" for n in range(3)}


def test_no_usable_episode_stops_at_opening(root: Path) -> None:
    for episode in range(3):
        v2.video_path(root, episode).write_bytes(b"")
    with pytest.raises(ValueError, match=f"{root} has no episode that can be used: episode_000000: .*episode_000002"):
        Mixture(config_of(root), seed=0)


def test_one_sound_episode_is_enough(root: Path) -> None:
    garble(v2.video_path(root, 0))
    garble(v2.video_path(root, 1))
    mixture = Mixture(config_of(root, decoded=True), seed=0)
    mixture.batch(range(50))
    assert {mixture.sample_window(sample)[1] for sample in range(50)} == {2}


def test_enumerated_windows_of_damaged_episodes_are_black(root: Path) -> None:
    mixture = Mixture(config_of(root), seed=0)
    whole = mixture.batch_at(range(36))
    v2.video_path(root, 1).unlink()
    batch = mixture.batch_at(range(36))
    inside = torch.arange(36) // 12 == 1
    assert torch.equal(batch.camera_mask[:, 0], ~inside)
    assert not batch.images[inside].any()
    assert torch.equal(batch.images[~inside], whole.images[~inside])
    assert torch.equal(batch.state, whole.state)
    assert [defect.key for _, defect in mixture.quarantine.defects] == [BAD]
    assert not (set(range(12, 24)) & set(mixture.spread(36).tolist()))
    assert Mixture(config_of(root), seed=0).num_frames == 24, "opened anew, it is left out"


def test_a_disk_that_fails_once_is_read_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mixture = Mixture(config_of(root), seed=0)
    whole = mixture.batch(range(12))
    original, calls = LeRobotReader.frames, []

    def unsteady(self: LeRobotReader, index: int, camera: str, numbers: np.ndarray) -> np.ndarray:
        calls.append(index)
        if len(calls) == 2:
            raise BadEpisodeError(BAD, "unreadable", "the disk was busy")
        return original(self, index, camera, numbers)

    monkeypatch.setattr(LeRobotReader, "frames", unsteady)
    assert_same(mixture.batch(range(12)), whole)
    assert mixture.quarantine.defects == []


# ------------------------------------------------------------------ ingest

KILLED = """
import os, signal, sys
from data_mixtures.readers.lerobot import LeRobotReader
from data_mixtures.shards.ingest import ingest

source, target, parts = sys.argv[1:]
done = []

def die(progress):
    done.append(progress)
    if len(done) == int(parts):
        os.kill(os.getpid(), signal.SIGKILL)

ingest(lambda: LeRobotReader(source), target, name="set", size=16, on_progress=die)
"""


def test_ingest_of_damaged_data_killed_and_gone_on_with(root: Path, tmp_path: Path) -> None:
    """kill -9 after the episode that failed half-way: the same bytes as of a run whole, the same defects, once."""
    garble(v2.video_path(root, 1))
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    meta = ingest(lambda: LeRobotReader(root), straight, name="set", size=16)
    assert (meta.num_episodes, meta.num_quarantined) == (2, 1)
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, str(root), str(killed), "2"],
        cwd=Path(__file__).parents[2],
        check=False,
        capture_output=True,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert not killed.exists()
    ingest(lambda: LeRobotReader(root), killed, name="set", size=16)
    names = sorted(path.relative_to(straight) for path in straight.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(killed) for path in killed.rglob("*") if path.is_file())
    _, different, missing = filecmp.cmpfiles(straight, killed, map(str, names), shallow=False)
    assert different == missing == []
    assert [(d.key, d.kind) for _, d in read_quarantine(killed / "quarantine.jsonl")] == [(BAD, "video")]
    mixture = Mixture(config_of(killed), seed=0)
    assert [d.key for _, d in mixture.quarantine.defects] == [BAD]
    with pytest.raises(ValueError, match=f"{killed}: {BAD}: .*`strict: false`"):
        Mixture(config_of(killed, strict=True), seed=0)
    with pytest.raises(ValueError, match=BAD):
        ingest(lambda: LeRobotReader(root), tmp_path / "strict", name="set", size=16, strict=True)


def test_ingest_keeps_what_opening_found(tmp_path: Path) -> None:
    folder = _cut_rlds(tmp_path)
    meta = ingest(lambda: RldsReader(folder), tmp_path / "shards", name="bridge", size=16)
    assert (meta.num_episodes, meta.num_quarantined) == (2, 1)
    ((_, defect),) = read_quarantine(tmp_path / "shards" / "quarantine.jsonl")
    assert (defect.key, defect.kind) == ("bridge_dataset-train.tfrecord-00000-of-00001", "truncated")
    with pytest.raises(ValueError, match="2 of 3 episodes can be read"):
        ingest(lambda: RldsReader(folder), tmp_path / "strict", name="bridge", size=16, strict=True)


# ------------------------------------------------------------------ what is not there


def test_every_missing_data_set_is_named_with_what_to_do(root: Path, tmp_path: Path) -> None:
    gone = [
        DatasetConfig(str(tmp_path / "no" / name), source=source) for name, source in (("a", "the hub"), ("b", None))
    ]
    with pytest.raises(ValueError, match="2 of 3 data sets are missing. Put each where it is looked for") as raised:
        Mixture(dataclasses.replace(config_of(root), datasets=[*gone, DatasetConfig(str(root))]), seed=0)
    assert f"a: looked for {tmp_path}/no/a; get it from the hub" in str(raised.value)
    assert f"b: looked for {tmp_path}/no/b" in str(raised.value)


def test_a_data_set_behind_a_url_that_cannot_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLA_CACHE", str(tmp_path / "cache"))
    url = "http://127.0.0.1:9/bridge"  # the port where nobody listens
    with pytest.raises(ValueError, match=f"{url} cannot be reached, and .*cache.* holds no whole copy"):
        Mixture(dataclasses.replace(config_of(tmp_path), datasets=[DatasetConfig(url)]), seed=0)
    with pytest.raises(ValueError, match="protocol 'nosuch' is not known"):
        Mixture(dataclasses.replace(config_of(tmp_path), datasets=[DatasetConfig("nosuch://x/y")]), seed=0)


def test_mended_data_come_back(root: Path, sound: Path) -> None:
    """Although nothing but some bytes of a file changed: neither a size nor a name."""
    whole = Mixture(config_of(sound, decoded=True), seed=0).batch(range(30))
    for path in (v2.video_path(root, 1), v2.data_path(root, 2)):
        good = path.read_bytes()
        garble(path) if path.suffix == ".mp4" else path.write_bytes(b"PAR0" + good[4:-4] + b"PAR0")
    broken = Mixture(config_of(root, decoded=True), seed=0)
    broken.batch(range(30))
    assert [(d.key, d.kind) for _, d in broken.quarantine.defects] == [
        ("episode_000002", "unreadable"), (BAD, "video")
    ]  # fmt: skip
    still = Mixture(config_of(root, decoded=True), seed=0)
    assert_same(still.batch(range(30)), broken.batch(range(30)))
    for path in (v2.video_path(sound, 1), v2.data_path(sound, 2)):
        replace(root / path.relative_to(sound), path)
    mended = Mixture(config_of(root, decoded=True, strict=True), seed=0)
    assert_same(mended.batch(range(30)), whole)


def _flip_last(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("index-*/state.npy", _flip_last),
        ("index-*/first_row.npy", lambda path: path.write_bytes(path.read_bytes()[:-8])),
        ("index-*/texts.json", lambda path: path.write_text("[]")),
        ("index-*/meta.json", Path.unlink),
        ("frames-front-16.npy", lambda path: path.write_bytes(path.read_bytes()[:-99])),
        ("frames-front-16.bad.json", lambda path: path.write_text("{")),
        ("frames-front-16.bad.json", Path.unlink),
    ],
)
def test_what_was_derived_and_is_damaged_is_derived_again(
    root: Path, name: str, damage: Callable[[Path], None]
) -> None:
    whole = Mixture(config_of(root, decoded=True), seed=0).batch(range(20))
    (path,) = (root / ".cache").glob(f"*/{name}")
    damage(path)
    again = Mixture(config_of(root, decoded=True), seed=0)
    assert_same(again.batch(range(20)), whole)
    assert again.quarantine.defects == []


def test_a_file_is_the_one_that_was_there_at_opening(root: Path) -> None:
    """Even if it is first read long after: its numbers were read from another one, in an earlier run."""
    Mixture(config_of(root), seed=0)
    later = Mixture(config_of(root), seed=0)
    replace(v2.video_path(root, 1), v2.video_path(root, 0))
    later.batch(range(30))
    assert [(d.key, d.kind) for _, d in later.quarantine.defects] == [(BAD, "changed")]


def test_a_table_that_labels_cannot_be_written_beside_is_told_before_any_work(tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "set", [12] * 2)
    check_source(root)
    path = next((root / "data").rglob("*.parquet"))
    table = v2.pq.read_table(path)
    v2.pq.write_table(table.slice(0, 20), path)
    with pytest.raises(ValueError, match="data/ holds 20 rows, meta/episodes names 24: .*`vla data convert` makes"):
        check_source(root)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"parquet cannot be read .*: fetch the data set again, or label a copy"):
        check_source(root)


def test_a_recorded_set_with_defects_of_many_kinds(tmp_path: Path) -> None:
    """v3.0, where episodes share files: only those that the damage concerns are left out."""
    root = write_dataset(tmp_path / "set", [12] * 4)
    path = next((root / "data").rglob("*.parquet"))
    table = v2.pq.read_table(path)
    states = np.array(table["observation.state"].to_pylist())
    states[12 + 5, 0] = np.nan
    states[36 + 1, 1] = -np.inf
    place = table.schema.get_field_index("observation.state")
    field = table.schema.field("observation.state")
    array = pa.array(states.tolist(), type=field.type)
    v2.pq.write_table(table.set_column(place, field, array), path)
    mixture = Mixture(config_of(root, "corner"), seed=0)
    assert [(d.key, d.kind) for _, d in mixture.quarantine.defects] == [
        ("episode_000001", "not_finite"), ("episode_000003", "not_finite")
    ]  # fmt: skip
    assert mixture.sources[0].index.source_episode.tolist() == [0, 2]
