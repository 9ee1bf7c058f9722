"""Names accounted for, dtypes as published, and no more memory than the weights need."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.vla.models.pi05.recorded_cases import DEAD_HEAD, published, student
from tests.vla.models.pi05.students import tiny_student
from vla.models.pi05.config import GemmaConfig, Pi05Config, VisionConfig
from vla.models.pi05.convert import WeightFile, our_name
from vla.models.pi05.load import compare_names, load_published
from vla.models.pi05.model import Pi05
from vla.models.pi05.precision import published_dtype, stored_precision
from vla.models.pi05.sizes import Heads, config_of, head_choices

COMPAT = Path(__file__).parents[5] / "shared" / "compat"
needs_compat = pytest.mark.skipif(not COMPAT.is_dir(), reason="needs ../shared/compat, which is not in the repository")

# As many times wider than deep as the published one, with about the same share in the embedding.
WIDE = Pi05Config(
    vision=VisionConfig(width=384, depth=5, mlp_dim=1536, num_heads=6, patch_size=14, image_size=224),
    vlm=GemmaConfig(width=768, depth=6, mlp_dim=3072, num_heads=8, num_kv_heads=1, head_dim=96),
    expert=GemmaConfig(width=384, depth=6, mlp_dim=1536, num_heads=8, num_kv_heads=1, head_dim=96),
    vocab_size=18_000,
)


class Published(WeightFile):
    """The published file's names, shapes and dtypes, without its numbers."""

    def __init__(self, tensors: dict[str, dict], project: str) -> None:
        self.path, self.left_out = Path("pi05_base"), [name for name in tensors if our_name(name) is None]
        self.tensors = {name: entry for name, entry in tensors.items() if our_name(name) is not None}
        self.project = project

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    def __iter__(self):
        return iter(self.tensors)

    def foreign(self, name: str) -> str:
        return name

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.tensors[name]["shape"])

    def dtype(self, name: str) -> str:
        return {"torch.float32": "F32", "torch.bfloat16": "BF16"}[self.tensors[name][f"{self.project}_bf16_dtype"]]


@needs_compat
@pytest.mark.parametrize("project", ["openpi", "lerobot"])
def test_all_published_names_shapes_and_dtypes(project: str):
    tensors = json.loads((COMPAT / "pi05_keys.json").read_text())["tensors"]
    weights = Published(tensors, project)
    assert len(tensors) == 812
    assert head_choices(weights) == [Heads(vision=16, head_dim=256)]
    config = config_of(weights, Heads(16, 256), image_size=224, horizon=50)
    assert config == Pi05Config()
    with torch.device("meta"):
        model = Pi05(config)
    report = compare_names(model, weights)
    assert (len(report.loaded), report.ignored) == (811, (DEAD_HEAD,))
    assert [*report.new, *report.missing, *report.unexpected] == []
    assert all(tuple(p.shape) == weights.shape(name) for name, p in model.named_parameters())
    assert sum(p.numel() for p in model.parameters()) == 3_353_433_872
    for name, entry in tensors.items():
        assert str(published_dtype(name, project)) == entry[f"{project}_bf16_dtype"], name  # pyright: ignore
    assert stored_precision(weights).endswith(f", as {project} writes bfloat16")


def test_report_of_names(tmp_path: Path):
    model = tiny_student()  # with a latent read-out, which no published file has
    state = {name: v for name, v in model.state_dict().items() if not name.startswith("latent_readout")}
    state.pop("action_in_proj.bias")
    save_file({**state, "model.odd": torch.ones(1), "state_proj.bias": torch.ones(1)}, tmp_path / "model.safetensors")
    report = compare_names(model, WeightFile(tmp_path), may_be_new=("latent_readout.",))
    assert len(report.loaded) == len(state)
    assert set(report.new) == {f"latent_readout.{n}" for n in ("motion_queries", "scene_queries", "proj.weight",
                                                               "proj.bias")}  # fmt: skip
    assert report.ignored == ("state_proj.bias",)
    assert report.missing == ("action_in_proj.bias",)
    assert report.unexpected == ("model.odd",)
    assert report.lines()[3] == "missing     1: action_in_proj.bias"
    with pytest.raises(ValueError, match=r"5 missing: action_in_proj\.bias, latent.*; 1 unexpected: model\.odd"):
        load_published(model, WeightFile(tmp_path))


def test_loaded_values(tmp_path: Path):
    source = student()
    state = {f"model.{name}": value.bfloat16() for name, value in published(source).items()}
    save_file(state, tmp_path / "model.safetensors")
    with torch.device("meta"):
        model = Pi05(source.config)
    load_published(model, WeightFile(tmp_path))
    for name, parameter in model.named_parameters():
        assert parameter.dtype == torch.float32
        assert torch.equal(parameter, source.get_parameter(name).bfloat16().float()), name


_MEASURED = """
import sys, torch
from pathlib import Path
from tests.vla.models.pi05.test_load import WIDE

def status(field):
    line = next(l for l in Path("/proc/self/status").read_text().splitlines() if l.startswith(field))
    return int(line.split()[1]) * 1024

def measured(module, load):
    torch.randn(9).bfloat16().float().aminmax()  # code that is read from disk on its first use
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
    load(module)
    peak = status("VmHWM")
    size = sum(p.numel() * p.element_size() for p in module.parameters())
    assert all((p == 0.5).all() for p in module.parameters())
    print((peak - before) / size, size)
"""

_PUBLISHED = """
from vla.models.pi05.convert import WeightFile
from vla.models.pi05.load import load_published
from vla.models.pi05.model import Pi05

with torch.device("meta"):
    model = Pi05(WIDE)
measured(model, lambda model: load_published(model, WeightFile(Path(sys.argv[1]))))
"""

# As a training run fills its module.
_WARM_START = """
from types import SimpleNamespace
from vla.models.pi05.model import Pi05
from vla.models.pi05.start import Start
from vla.train.initialise import initialise, materialise

with torch.device("meta"):
    model = Pi05(WIDE)
stage = SimpleNamespace(init_parameter=Start(WIDE, sys.argv[1]).value, init_buffers=lambda module: None)

def load(model):
    materialise(model, "cpu")
    initialise(model, stage, seed=0)

measured(model, load)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("path", [_PUBLISHED, _WARM_START], ids=["policy", "training"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_peak_memory_is_that_of_the_weights(tmp_path: Path, path: str, dtype: torch.dtype):
    with torch.device("meta"):
        model = Pi05(WIDE)
    state = {f"model.{name}": torch.full(p.shape, 0.5, dtype=dtype) for name, p in model.named_parameters()}
    head = torch.ones(WIDE.vocab_size, WIDE.expert.width, dtype=dtype)
    save_file({**state, f"model.{DEAD_HEAD}": head}, tmp_path / "model.safetensors")
    told = subprocess.run(
        [sys.executable, "-c", _MEASURED + path, str(tmp_path)], capture_output=True, text=True, check=False,
        cwd=Path(__file__).parents[4],
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    share, size = map(float, told.stdout.split())
    assert size > 250e6
    assert 0.95 < share < 1.15, told.stdout
