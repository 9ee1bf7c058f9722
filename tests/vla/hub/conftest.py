import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from huggingface_hub import HfApi, constants
from safetensors.numpy import save_file

from tests.vla.hub.hub_server import WRITE, Hub, serve
from vla.hub import pull

HOME = "/" + "home"  # put together, as no file of the project names a place on one machine


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A Hub of this test's own; nothing in this process can reach another, nor sees this machine's token."""
    with serve() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.setattr(pull, "_PAUSE_S", 0.01)
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE"):
            monkeypatch.delenv(name, raising=False)
        yield server


@pytest.fixture
def api(hub: Hub) -> HfApi:
    return HfApi(endpoint=hub.url, token=WRITE)


RECIPE = {
    "stage": "finetune",
    "run": "runs/nano",
    "data": {"datasets": [{"path": "runs/demo/expert/data", "episodes_per_task": 2, "weight": 1.0}]},
    "loop": {"steps": 600, "batch_size": 32, "dtype": "float32", "seed": 0},
    "objective": {"init_from": None, "loss": "flow", "model": {"vocab_size": 512}},
    "optim": {"lr": 0.001},
}


def make_run(folder: Path, seed: int = 0, values: int = 60_000, **recipe: object) -> Path:
    """A finished run as training leaves it, with weights of 4 x `values` bytes that do not compress."""
    model = folder / "model"
    model.mkdir(parents=True)
    random = np.random.default_rng(seed)
    save_file({"w": random.standard_normal(values).astype(np.float32)}, model / "model.safetensors")
    (model / "config.json").write_text(json.dumps({"horizon": 16}))
    (model / "processor.json").write_text(json.dumps({"cameras": ["corner"]}))
    (model / "tokenizer.json").write_text(json.dumps({"vocab": {f"{HOME}/somebody": 3}}))
    (model / "normalisation.json").write_text(json.dumps({"action": {"q01": [0.0]}}))
    (folder / "recipe.yaml").write_text(yaml.safe_dump({**RECIPE, **recipe}))
    (folder / "versions.json").write_text(json.dumps({"code": "abc123", "packages": {"torch": "2.13.0"}}))
    (folder / "metrics.jsonl").write_text('{"step": 300, "loss": 1.0}\n{"step": 600, "loss": 0.5}\n{"step": 9')
    (folder / "done.json").write_text(json.dumps({"wall_seconds": 3600.0}))
    (folder / "checkpoints" / "step-00000600").mkdir(parents=True)
    (folder / "checkpoints" / "step-00000600" / "__0_0.distcp").write_bytes(b"\x80\x02optimiser")
    (folder / ".lock").touch()
    (model / ".model.safetensors.partial").write_bytes(b"half")
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "nano")
