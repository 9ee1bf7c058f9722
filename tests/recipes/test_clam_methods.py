"""The methods beside CLAM, from their recipes: which parts each one trains, on what, and what a recipe may not mix."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from data_mixtures.transitions import Trajectories
from lam.clam.agent import ClonedAgent
from recipes.latent_actions import ClamRecipe, _Run
from recipes.loading import load_recipe
from tests.lam.clam.worlds import moving_dots, pushed_points
from vla.observation import Observation

METHODS = Path(__file__).parents[2] / "recipes" / "clam" / "methods"
DATA = {name: pushed_points(seed) for seed, name in enumerate(("unlabelled", "expert", "labelled", "heldout"))}
MADE = {
    Path("runs/clam/data") / of / name
    for of in ("", "assembly-images")
    for name in ("play", "expert", "labelled", "heldout")
}
PICTURES = {name: moving_dots(seed, 4) for seed, name in enumerate(DATA)}
TINY = {"steps": 4, "batch_size": 8, "log_every": 1}
LAM = {"lam_training.loop.steps": 4, "lam_training.loop.batch_size": 8}
SMALL = {"policy.embedding_dim": 8, "policy.hidden_dims": [8]}


def method(name: str, run: Path, **fields: object) -> ClamRecipe:
    given = SMALL | {f"policy_training.loop.{key}": value for key, value in TINY.items()} | {"run": str(run)}
    return load_recipe(METHODS / f"{name}.yaml", given | fields)


def carried_out(recipe: ClamRecipe, data: dict[str, Trajectories] = DATA) -> Path:
    run = _Run(recipe)
    run._loaded = dict(data)
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


EYES = {"encoder": {"image_size": 8, "channels": [2], "scale": 1, "feature_dim": 8}, "base_width": 8}
LOOKING = {"data.image_size": 8, "policy.state_columns": 2}
OWN_EYES = LOOKING | {"lam.impala": EYES, "policy.impala": EYES["encoder"]}
PATCHES = {"image_size": 8, "patch_size": 4, "num_encoder_layers": 1, "num_decoder_layers": 1, "width": 8}
PATCHES |= {"feedforward": 8, "num_heads": 2, "dropout": 0.0, "state_columns": 2}
CODED = {f"code_training.loop.{key}": value for key, value in TINY.items()}
DECODED = {f"decoder_training.loop.{key}": value for key, value in (TINY | {"eval_every": 2}).items()}


@pytest.mark.parametrize(
    ("name", "fields", "parts"),
    [
        ("mlp_clam_images", OWN_EYES | LAM | {"lam_training.loop.eval_every": 2}, {"lam", "policy"}),
        ("lapo_images", OWN_EYES | LAM | DECODED, {"lam", "decoder", "policy"}),
        ("lapa_images", OWN_EYES | LAM | CODED, {"lam", "codes", "policy"}),
        ("bc_expert_images", LOOKING | {"policy.impala": EYES["encoder"]}, {"policy"}),
        (
            "st_clam",
            LOOKING | LAM | {"lam_training.loop.eval_every": 2, "lam.space_time": PATCHES},
            {"lam", "policy"},
        ),
    ],
)
def test_a_method_of_pictures_trains_its_parts_and_acts(
    name: str, fields: dict[str, object], parts: set[str], tmp_path: Path
):
    run = carried_out(method(name, tmp_path, **fields), PICTURES)
    assert {folder.name for folder in run.iterdir() if folder.is_dir()} == parts
    agent = ClonedAgent.from_pretrained(run / "policy" / "model")
    assert (agent.cameras, agent.frame_stack) == (("corner",), 3)
    seen = Observation({"corner": np.zeros((8, 8, 3), np.uint8)}, np.array([0.1, 0.2, 5.0], np.float32), "")
    assert np.isfinite(agent.act_many([seen], [0])).all()
    if "eval_every" in str(fields):
        found = json.loads((run / "heldout.json").read_text())
        assert found.keys() == {"action_error", "reconstruction", "copy"}
        changes = [episode.float().div(255).diff(dim=0) for episode in PICTURES["heldout"].images.split(12)]
        assert found["copy"] == pytest.approx(float(torch.cat(changes).square().mean()), rel=0.1)


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
        ("vpt", {"data.cameras": ["corner"]}, "nothing looks at pictures; leave it out"),
        ("st_clam", {"data.cameras": []}, "`lam` looks at pictures: name `data.cameras`"),
        ("bc_al_images", {"data.cameras": []}, "`policy.impala` looks at pictures"),
        ("st_clam", {"data.image_size": 64}, "`lam` looks at 32 pixels a side; give"),
        ("vpt", {"policy.pretrained": "tuned", "policy.state_columns": 4}, "`lam`, which looks at no pictures"),
        ("dynamo", {"policy.state_columns": 4}, "`encoder` embeds whole states"),
        ("lapa", {"policy.embedding_dim": 512, "policy.hidden_dims": [1024, 1024], "policy.chunk": {}}, "is an MLP's"),
    ],
)
def test_what_would_be_ignored_is_refused(name: str, fields: dict[str, object], refusal: str):
    recipe = load_recipe(METHODS / f"{name}.yaml", fields)
    with pytest.raises(ValueError, match=refusal):
        recipe.check(MADE)
