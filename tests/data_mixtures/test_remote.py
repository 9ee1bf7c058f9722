"""Mirrors of data sets behind URLs: what is fetched, when, and what a broken transfer leaves."""

import http.server
import logging
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import lerobot_v2_files as v2
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from data_mixtures.readers.lerobot import LeRobotReader
from data_mixtures.storage import remote
from data_mixtures.storage.remote import localise


class Server(http.server.ThreadingHTTPServer):
    """Serves a folder with listings and ETags; counts what is fetched, and can break off."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.fetched, self.refused = folder, [], ""
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.SimpleHTTPRequestHandler):
    server: Server

    def __init__(self, request: Any, address: Any, server: Server) -> None:
        super().__init__(request, address, server, directory=str(server.folder))

    def do_GET(self) -> None:
        if not self.path.endswith("/"):
            if self.server.refused and self.server.refused in self.path:
                self.send_error(503)
                return
            self.server.fetched.append(self.path)
        super().do_GET()

    def end_headers(self) -> None:
        path = Path(self.translate_path(self.path))
        if path.is_file():
            self.send_header("ETag", f'"{path.stat().st_mtime_ns}"')
        super().end_headers()

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    v2.write_v2(tmp_path / "site/sets/walk", [5, 4])
    (tmp_path / "site/sets/walk/.hidden").write_text("not data")
    with Server(tmp_path / "site") as opened:
        thread = threading.Thread(target=opened.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield opened
        opened.shutdown()
        thread.join()


def test_a_data_set_behind_http_reads_as_a_local_one(server: Server, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    folder = localise(f"{server.url}/sets/walk", tmp_path / "cache", lambda *step: steps.append(step))
    local, mirrored = LeRobotReader(tmp_path / "site/sets/walk"), LeRobotReader(folder)
    assert mirrored.fingerprint == local.fingerprint
    np.testing.assert_array_equal(mirrored.episode(1).frames("front"), local.episode(1).frames("front"))
    assert len(server.fetched) == 8  # 4 of meta, 2 tables, 2 videos
    assert not (folder / ".hidden").exists()
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    assert steps[-1][0] == steps[-1][1] == sum(p.stat().st_size for p in folder.rglob("[!.]*") if p.is_file())


def test_only_what_changed_is_fetched_again(server: Server, tmp_path: Path) -> None:
    url, origin = f"{server.url}/sets/walk", tmp_path / "site/sets/walk"
    folder = localise(url, tmp_path / "cache")
    server.fetched.clear()
    assert localise(url, tmp_path / "cache") == folder
    assert server.fetched == []
    same_size = origin / "meta/tasks.jsonl"
    same_size.write_text(same_size.read_text().replace("pear", "plum"))
    os.utime(same_size, ns=(1, 1))
    (origin / "meta/new.json").write_text("{}")
    (origin / "meta/episodes_stats.jsonl").unlink()
    (folder / "meta/info.json").write_text("cut")
    localise(url, tmp_path / "cache")
    assert sorted(Path(path).name for path in server.fetched) == ["info.json", "new.json", "tasks.jsonl"]
    assert "plum" in (folder / "meta/tasks.jsonl").read_text()
    assert not (folder / "meta/episodes_stats.jsonl").exists()
    LeRobotReader(folder)


def test_a_broken_transfer_goes_on_file_by_file(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "TRIES", 1)
    server.refused = "episode_000001.mp4"
    with pytest.raises(ValueError, match=r"was not fetched whole: .*episode_000001.mp4.*Run again"):
        localise(f"{server.url}/sets/walk", tmp_path / "cache")
    first = set(server.fetched)
    server.fetched.clear()
    server.refused = ""
    folder = localise(f"{server.url}/sets/walk", tmp_path / "cache")
    assert len(first) + len(server.fetched) == 8
    assert not first & set(server.fetched)
    assert not (folder / ".mirror.part").exists()
    assert len(LeRobotReader(folder).episode(1)) == 4


def test_a_whole_cache_serves_without_a_network(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"{server.url}/sets/walk"
    folder = localise(url, tmp_path / "cache")
    server.shutdown()
    server.server_close()
    with caplog.at_level(logging.WARNING):
        assert localise(url, tmp_path / "cache") == folder
    assert "cannot be reached" in caplog.text
    with pytest.raises(ValueError, match="cannot be reached, and .* holds no whole copy"):
        localise(url, tmp_path / "other")


@pytest.fixture
def bucket() -> Iterator[str]:
    filesystem = fsspec.filesystem("memory")
    for name, content in (("meta/info.json", b"{}"), ("data/a.bin", b"abc"), ("data/deep/b.bin", b"")):
        filesystem.pipe(f"/bucket/set/{name}", content)
    yield "memory://bucket/set"
    filesystem.rm("/bucket", recursive=True)


def test_other_protocols_of_fsspec(bucket: str, tmp_path: Path) -> None:
    folder = localise(bucket, tmp_path)
    assert folder == tmp_path / "memory/bucket/set"
    assert (folder / "data/a.bin").read_bytes() == b"abc"
    assert (folder / "data/deep/b.bin").read_bytes() == b""
    fsspec.filesystem("memory").pipe("/bucket/set/data/a.bin", b"xyz")  # of the same size, at another time
    localise(bucket, tmp_path)
    assert (folder / "data/a.bin").read_bytes() == b"xyz"
    with pytest.raises(ValueError, match="nothing at memory://bucket/other"):
        localise("memory://bucket/other", tmp_path)


class HubStub(MemoryFileSystem):
    """Lists as Hugging Face's file system does: a blob id, no time."""

    protocol = "hf"
    store: dict[str, Any] = {}
    pseudo_dirs = [""]

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + path.removeprefix("hf://").strip("/")

    def find(self, path: str, *args: Any, **options: Any) -> Any:
        found: Any = super().find(path, *args, **options)
        return {name: {"name": name, "size": info["size"], "blob_id": info["size"]} for name, info in found.items()}


@pytest.fixture
def hub() -> Iterator[HubStub]:
    fsspec.register_implementation("hf", HubStub, clobber=True)
    yield HubStub()
    fsspec.register_implementation("hf", "huggingface_hub.HfFileSystem", clobber=True)


def test_hub_paths_are_compared_by_blob(hub: HubStub, tmp_path: Path) -> None:
    hub.pipe("/datasets/user/set/meta/info.json", b"{}")
    folder = localise("hf://datasets/user/set", tmp_path)
    assert (folder / "meta/info.json").read_bytes() == b"{}"
    hub.pipe("/datasets/user/set/meta/info.json", b"[]")  # the same blob id, so not looked at
    localise("hf://datasets/user/set", tmp_path)
    assert (folder / "meta/info.json").read_bytes() == b"{}"


@pytest.mark.parametrize(("url", "package"), [("s3://bucket/set", "s3fs"), ("gs://bucket/set", "gcsfs")])
def test_a_missing_package_is_named(url: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=f"{url} needs a package that is not installed: pip install {package}"):
        localise(url, tmp_path)
    with pytest.raises(ValueError, match="protocol 'nope' is not known"):
        localise("nope://x", tmp_path)


def test_folders_are_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert localise(tmp_path) == tmp_path
    assert localise("some/folder") == Path("some/folder")
    assert localise("file:///some/a%20folder") == Path("/some/a folder")
    monkeypatch.setenv("VLA_CACHE", str(tmp_path / "here"))
    assert remote.cache_folder() == tmp_path / "here"
    monkeypatch.delenv("VLA_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert remote.cache_folder() == tmp_path / "vla"


def test_a_cache_that_cannot_be_written_is_named(bucket: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot be written .* set VLA_CACHE to a folder you own"):
        localise(bucket, tmp_path / "file")
