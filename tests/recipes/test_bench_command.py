"""`vla bench`: what it prints, writes and refuses."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from recipes.cli import main
from tests.vla.models.pi05.recorded_cases import published, student


def test_latency_prints_a_table_and_writes_what_it_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    for peer in ("LEROBOT", "OPENPI"):
        monkeypatch.delenv(f"VLA_{peer}_PYTHON", raising=False)
    out = tmp_path / "out.json"
    arguments = ["bench", "latency", "--depth", "2", "--width", "128", "--rounds", "2"]
    assert main([*arguments, "--peers", "lerobot", "--json", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "2 of 3 cameras, 70 of 200 tokens, batch 1" in printed
    assert "3 of 3 cameras, 200 of 200 tokens, nothing to drop, batch 1" in printed
    assert "lerobot  not timed: set VLA_LEROBOT_PYTHON" in printed
    assert "openpi" not in printed
    assert "ours by part: vision" in printed
    written = json.loads(out.read_text())
    assert [len(result["timings"][0]["seconds"]) for result in written["results"]] == [2, 2]
    assert written["hardware"]


def test_weights_of_unusual_widths_need_their_heads(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "w.safetensors"
    save_file({name: value.contiguous() for name, value in published(student()).items()}, path)
    assert main(["bench", "latency", "--weights", str(path)]) == 2
    assert "give --vision-heads and --head-dim" in " ".join(capsys.readouterr().err.split())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_no_cuda_device_is_said(capsys: pytest.CaptureFixture[str]):
    assert main(["bench", "latency", "--device", "cuda"]) == 2
    assert "torch sees no CUDA device here" in capsys.readouterr().err


def test_data_passes_its_words_on(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main(["bench", "data", "--help"])
    assert ended.value.code == 0
    assert "--episodes" in capsys.readouterr().out
