"""Where a simulator's assets lie and how they get there, for any simulator."""

import subprocess
from pathlib import Path

import pytest

from eval.asset_files import AssetFolder
from eval.simpler import assets as simpler

_VARIABLE = "VLA_TOY_ASSETS"
_TOY = AssetFolder("toy", "Toy", _VARIABLE, mark=Path("mark.txt"), public="the toy shop's own")


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (_VARIABLE, simpler.ASSETS_VARIABLE):
        monkeypatch.delenv(name, raising=False)


def _fetch(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "mark.txt").write_text("public")


def test_public_assets_are_fetched_once_and_finished_before_they_appear(tmp_path: Path) -> None:
    said: list[str] = []
    for _ in range(2):
        _TOY.place(tmp_path, _fetch, said.append, finish=lambda folder: (folder / "twin").touch())
    assert said == ["toy: fetching the toy shop's own"]
    assert sorted(p.name for p in _TOY.folder(tmp_path).iterdir()) == [".source", "mark.txt", "twin"]
    assert [p.name for p in tmp_path.iterdir()] == ["toy_assets"]


def test_what_was_unpacked_stays_when_the_variable_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = tmp_path / "packed"
    _fetch(packed)
    (packed / "mark.txt").write_text("archived")
    archive = tmp_path / "a.tar.zst"
    subprocess.run(["tar", "--zstd", "-cf", str(archive), "-C", str(packed), "."], check=True)
    monkeypatch.setenv(_VARIABLE, str(archive))
    _TOY.place(tmp_path, _fetch, lambda line: None)
    monkeypatch.delenv(_VARIABLE)
    _TOY.place(tmp_path, _fetch, lambda line: None)
    assert (_TOY.folder(tmp_path) / "mark.txt").read_text() == "archived"


def test_a_fetch_of_something_else_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"the toy shop's own: not Toy's assets, mark\.txt is not in it"):
        _TOY.place(tmp_path, lambda folder: folder.mkdir(), lambda line: None)
    with pytest.raises(ValueError, match="holds no Toy assets.*run `vla setup toy`"):
        _TOY.folder(tmp_path)


def test_simplers_twins_are_made_of_what_the_repository_holds(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for name in ("custom/info_bridge_custom_v0.json", "custom/models/baked_opened_redbull_can_v2/textured.dae"):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_text(name)
    (tmp_path / "simulators" / ".simpler_assets.partial" / "left over").mkdir(parents=True)
    simpler.place_assets(tmp_path / "simulators", lambda: data, lambda line: None)
    folder = simpler.assets_folder(tmp_path / "simulators")
    assert (folder / "custom/models/baked_opened_redbull_can/textured.dae").read_text().endswith("_v2/textured.dae")
    assert not (folder / "left over").exists()
