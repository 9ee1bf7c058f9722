import hashlib
import subprocess
from pathlib import Path

import pytest

from eval.libero import assets
from eval.libero.assets import assets_folder, assets_kind, place_assets

_SCENE = "scenes/libero_tabletop_base_style.xml"


def _folder(at: Path, plate: bytes = b"plate") -> Path:
    for name, content in ((_SCENE, b"<mujoco/>"), ("plate.png", plate)):
        (at / name).parent.mkdir(parents=True, exist_ok=True)
        (at / name).write_bytes(content)
    return at


def _archive(tmp_path: Path, plate: bytes = b"plate") -> Path:
    folder = _folder(tmp_path / f"packed-{plate.decode()}", plate)
    archive = tmp_path / f"{plate.decode()}.tar.zst"
    subprocess.run(["tar", "--zstd", "-cf", str(archive), "-C", str(folder), "."], check=True)
    return archive


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLA_LIBERO_ASSETS", raising=False)


def test_content_decides_whose_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = hashlib.sha1(b"blob 5\0plate", usedforsecurity=False).hexdigest()
    monkeypatch.setattr(assets, "_OFFICIAL", {"plate.png": name[:16]})
    assert assets_kind(_folder(tmp_path / "a")) == "official"
    assert assets_kind(_folder(tmp_path / "b", b"another plate")) == "stand-in"
    (tmp_path / "a" / "plate.png").unlink()
    assert assets_kind(tmp_path / "a") == "stand-in"


def test_an_archive_is_unpacked_once_and_again_when_it_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulators, said = tmp_path / "simulators", []
    simulators.mkdir()
    monkeypatch.setenv("VLA_LIBERO_ASSETS", str(_archive(tmp_path)))
    place_assets(simulators, said.append)
    place_assets(simulators, said.append)
    assert len(said) == 1
    assert assets_folder(simulators) == simulators / "libero_assets"
    monkeypatch.setenv("VLA_LIBERO_ASSETS", str(_archive(tmp_path, b"other")))
    with pytest.raises(ValueError, match="was not unpacked from"):
        assets_folder(simulators)
    place_assets(simulators, said.append)
    assert (assets_folder(simulators) / "plate.png").read_bytes() == b"other"


def test_an_archive_of_something_else_leaves_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _folder(tmp_path / "libero_assets")
    (tmp_path / "x").mkdir()
    archive = tmp_path / "x.tar.zst"
    subprocess.run(["tar", "--zstd", "-cf", str(archive), "-C", str(tmp_path / "x"), "."], check=True)
    monkeypatch.setenv("VLA_LIBERO_ASSETS", str(archive))
    with pytest.raises(RuntimeError, match="not LIBERO's assets"):
        place_assets(tmp_path, lambda line: None)
    assert (tmp_path / "libero_assets" / "plate.png").read_bytes() == b"plate"


def test_a_folder_is_used_in_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = _folder(tmp_path / "mine")
    monkeypatch.setenv("VLA_LIBERO_ASSETS", str(given))
    place_assets(tmp_path, lambda line: None)
    assert assets_folder(tmp_path) == given
    assert not (tmp_path / "libero_assets").exists()


def test_none_and_wrong_names_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="run `vla setup libero`"):
        assets_folder(tmp_path)
    monkeypatch.setenv("VLA_LIBERO_ASSETS", str(tmp_path / "nowhere.tar.zst"))
    with pytest.raises(ValueError, match="does not exist; name a folder"):
        place_assets(tmp_path, lambda line: None)
