"""The methods beside CLAM, from their recipes: which parts each one trains, on what, and what a recipe may not mix."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from lam.clam.agent import ClonedAgent
from recipes.latent_actions import ClamRecipe, _Run
from recipes.loading import load_recipe
from tests.lam.clam.worlds import pushed_points
from vla.observation import Observation

METHODS = Path(__file__).parents[2] / "recipes" / "clam" / "methods"
DATA = {name: pushed_points(seed) for seed, name in enumerate(("unlabelled", "expert", "labelled", "heldout"))}
MADE = {Path("runs/clam/data") / name for name in ("play", "expert", "labelled", "heldout")}
TINY = {"steps": 4, "batch_size": 8, "log_every": 1}
LAM = {"lam_training.loop.steps": 4, "lam_training.loop.batch_size": 8}
SMALL = {"policy.embedding_dim": 8, "policy.hidden_dims": [8]}


def method(name: str, run: Path, **fields: object) -> ClamRecipe:
    given = SMALL | {f"policy_training.loop.{key}": value for key, value in TINY.items()} | {"run": str(run)}
    return load_recipe(METHODS / f"{name}.yaml", given | fields)


def carried_out(recipe: ClamRecipe) -> Path:
    run = _Run(recipe)
    run._loaded = dict(DATA)
    run.carry_out()
    return Path(recipe.run)


def acts(run: Path) -> np.ndarray:
    agent = ClonedAgent.from_pretrained(run / "policy" / "model")
    return agent.act_many([Observation({}, np.array([0.1, 0.2, 5.0], np.float32), "")], [0])[0, 0]


SEPARATE = LAM | {f"decoder_training.loop.{key}": value for key, value in TINY.items()}
SEPARATE |= {"decoder_training.loop.eval_every": 2, "lam.mlp.hidden_dims": [8], "lam.decoder.hidden_dims": [8]}
CODES = LAM | {f"code_training.loop.{key}": value for key, value in TINY.items()} | {"lam.mlp.hidden_dims": [8]}
FEATURES = {f"encoder_training.loop.{key}": value for key, value in TINY.items()}


@pytest.mark.parametrize(
    ("name", "fields", "parts"),
    [
        ("lapo", SEPARATE, {"lam", "decoder", "policy"}),
        ("lapa", CODES, {"lam", "codes", "policy"}),
        ("dynamo", FEATURES, {"encoder", "policy"}),
        ("vpt", LAM | {"lam_training.loop.eval_every": 2, "lam.mlp.hidden_dims": [8]}, {"lam", "policy"}),
    ],
)
def test_a_method_trains_its_parts_and_acts(name: str, fields: dict[str, object], parts: set[str], tmp_path: Path):
    run = carried_out(method(name, tmp_path, **fields))
    assert {folder.name for folder in run.iterdir() if folder.is_dir()} == parts
    assert np.isfinite(acts(run)).all()


def test_lapa_goes_on_from_the_policy_of_codes(tmp_path: Path):
    fields = CODES | {"policy_training.loop.steps": 1, "policy_training.optim.lr": 1e-12}
    run = carried_out(method("lapa", tmp_path, **fields))
    codes, policy = (load_file(run / part / "model" / "model.safetensors") for part in ("codes", "policy"))
    assert codes["network.layers.1.weight"].shape == (4 * 8, 8)
    assert policy["network.layers.1.weight"].shape == (2, 8)
    for name in ("embedding.weight", "network.layers.0.weight"):
        assert np.allclose(codes[name], policy[name], atol=1e-6)


def test_lapo_decodes_what_it_imitates_before_quantisation(tmp_path: Path):
    run = carried_out(method("lapo", tmp_path, **SEPARATE))
    policy = load_file(run / "policy" / "model" / "model.safetensors")
    decoder = load_file(run / "decoder" / "model" / "model.safetensors")
    assert policy["latent_mean"].shape == (128,)
    assert (policy["decoder.embedding.weight"] == decoder["decoder.embedding.weight"]).all()


@pytest.mark.parametrize("name", sorted(path.stem for path in METHODS.glob("*.yaml")))
def test_every_method_is_possible(name: str):
    recipe = load_recipe(METHODS / f"{name}.yaml")
    data = recipe.data
    recipe.check({Path(d.path) for d in (*data.unlabelled, *data.expert, *data.labelled, *data.heldout)})


@pytest.mark.parametrize(
    ("name", "fields", "refusal"),
    [
        ("lapa", {"policy.target": "latent"}, "`code_training` says nothing to this method"),
        ("lapa", {"lam.quantiser": None}, "with a `lam.quantiser` whose codes there are"),
        ("lapa", {"code_training": None}, "imitates actions, and `lam` is not needed"),
        ("dynamo", {"encoder_training": None}, "`encoder_training` is missing"),
        ("dynamo", {"encoder": None}, "`encoder_training` says nothing to this method"),
        ("lapo", {"decoder_training": None}, "`decoder_training` is missing"),
        ("dynamo", {"encoder_training.loop.eval_every": 100}, "nothing evaluates them"),
        ("lapa", {"policy.demonstrations": "expert"}, "fine-tuned in the units of `labelled`"),
        ("vpt", {"data.labelled.0.labelled_share": 0.05}, "labelled_share: 0.05` says nothing here"),
        ("continuous_separate", {"lam_training.loop.eval_every": 100}, "no decoder has learned"),
        ("vpt", {"data.expert.0.weight": 2.0}, "weight: 2.0` says nothing here"),
        ("vpt", {"data.labelled.0.episodes_per_task": 0}, "data.labelled.0.episodes_per_task is 0"),
    ],
)
def test_what_would_be_ignored_is_refused(name: str, fields: dict[str, object], refusal: str):
    recipe = load_recipe(METHODS / f"{name}.yaml", fields)
    with pytest.raises(ValueError, match=refusal):
        recipe.check(MADE)
