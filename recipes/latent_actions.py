"""`stage: clam`: a few labelled trajectories and many unlabelled ones in, a policy out; and the methods beside CLAM.

    lam      unlabelled (+ labelled) windows ─► latent action model      run/lam
    decoder  labelled windows                ─► its action decoder       run/decoder, where it is not trained jointly
    encoder  unlabelled windows              ─► observation encoder      run/encoder, DynaMo's
    codes    unlabelled windows, coded       ─► policy of codes          run/codes, LAPA's, fine-tuned to `policy`
    policy   demonstrations, relabelled      ─► policy                   run/policy

A method is which of these there are and what each is shown (recipes/clam/methods): without `lam` it is behaviour
cloning.
"""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from data_mixtures.config import DatasetConfig, check_dataset
from data_mixtures.storage.whole_file import write_whole
from lam.clam.config import DynamoConfig, LamConfig, PolicyConfig
from recipes.checks import check_input, check_launch
from recipes.finished import done_when_whole, has_all
from recipes.loading import RecipeError
from vla.train.config import LoopConfig, OptimConfig, ParallelConfig

if TYPE_CHECKING:
    from torch import Tensor

    from data_mixtures.transitions import Trajectories, Transitions, Windows
    from lam.clam.model import LatentActionModel, Sizes
    from lam.clam.policy_stage import Imitated
    from lam.clam.stage import ActionError
    from lam.clam.standard import Statistics
    from vla.train.stage import Stage

HELDOUT_FILE = "heldout.json"


@dataclass(frozen=True)
class TransitionsConfig:
    """The data sets, by what may be seen of them. All are of one robot.

    Attributes:
        unlabelled: Observations of any behaviour; what the latent action model learns from.
        expert: Observations of demonstrations; what the policy imitates.
        labelled: Observations and actions, of any behaviour.
        heldout: As `labelled`; nothing is trained on them, models are chosen by their action error.
        cameras: Pictures of these are read too, for what looks at pictures.
        image_size: Pixels a side they are made.
        context: Frames before the present one, H.
        spread_floor: Least spread of a state dimension, as a share of the largest (see lam/clam/standard.py).
        labelled_every: Labelled windows come with every so-many-th update of the latent action model, K.
        labelled_batch: How many.
    """

    unlabelled: list[DatasetConfig] = field(default_factory=list)
    expert: list[DatasetConfig] = field(default_factory=list)
    labelled: list[DatasetConfig] = field(default_factory=list)
    heldout: list[DatasetConfig] = field(default_factory=list)
    cameras: list[str] = field(default_factory=list)
    image_size: int = 64
    context: int = 1
    spread_floor: float = 0.01
    labelled_every: int = 2
    labelled_batch: int = 128

    def __post_init__(self) -> None:
        for name, least in {"context": 0, "labelled_every": 1, "labelled_batch": 1, "spread_floor": 1e-9}.items():
            if getattr(self, name) < least:
                raise ValueError(f"`data.{name}: {getattr(self, name)}` is too small; use {least} or more")


@dataclass(frozen=True)
class Training:
    """How one part is trained; `loop.seed` is the recipe's `seed`."""

    loop: LoopConfig
    optim: OptimConfig


@dataclass(frozen=True)
class ClamRecipe:
    """Train a latent action model, its decoder and a policy.

    Attributes:
        stage: clam.
        run: The folder; the policy to roll out is `run/policy`.
        data: What may be seen.
        policy: Stage 2.
        policy_training: How.
        lam: Stage 1; None for behaviour cloning.
        lam_training: How.
        decoder_training: How the decoder is trained where `lam.joint` is false.
        encoder: DynaMo: the policy takes a frozen encoder's embedding in the observation's place; None for none.
        encoder_training: How it is trained.
        code_training: LAPA: the policy is first trained to name the codes of all `unlabelled` observations, then
            fine-tuned with a fresh last layer, as `policy_training` says; None for none.
        seed: Of weights, samples and draws.
        parallel: Where the modules live.
    """

    stage: Literal["clam"]
    run: str
    data: TransitionsConfig
    policy: PolicyConfig
    policy_training: Training
    lam: LamConfig | None = None
    lam_training: Training | None = None
    decoder_training: Training | None = None
    encoder: DynamoConfig | None = None
    encoder_training: Training | None = None
    code_training: Training | None = None
    seed: int = 0
    parallel: ParallelConfig = field(default_factory=ParallelConfig)

    def check(self, made: set[Path], ranks: int | None = None) -> None:
        """Raise ValueError for what cannot run, or would be ignored, before any work."""
        for training in (*self._chosen, *self._unchosen):
            if training is not None:
                check_launch(training.loop, self.parallel, ranks)
        for name in self.needed:
            datasets = getattr(self.data, name)
            if not datasets:
                raise RecipeError(f"`data.{name}` is empty: name at least one data set")
            for place, dataset in enumerate(datasets):
                _check_taken(f"data.{name}.{place}", dataset)
                field_name = f"data.{name}.{place}.path"
                check_input(field_name, dataset.path, made, f"record it first, or point `--{field_name}` at it.")
        self._check_parts()
        self._check_pictures()

    def _check_pictures(self) -> None:
        """Pictures are read if something looks at them, and as that wants them."""
        lam, policy, size = self.lam, self.policy, self.data.image_size
        looks = {
            "lam": None if lam is None else lam.image_size,
            "policy.impala": None if policy.impala is None else policy.impala.image_size,
            "policy.chunk": size if policy.chunk is not None and self.data.cameras else None,
        }
        if not self.data.cameras and (seeing := [name for name, wanted in looks.items() if wanted is not None]):
            raise RecipeError(f"`{seeing[0]}` looks at pictures: name `data.cameras`")
        if self.data.cameras and not any(looks.values()):
            raise RecipeError("`data.cameras` is given, and nothing looks at pictures; leave it out")
        for name, wanted in looks.items():
            if wanted not in (None, size):
                raise RecipeError(
                    f"`{name}` looks at {wanted} pixels a side; give `data.image_size: {wanted}`, not {size}"
                )
        if policy.pretrained is not None and (lam is None or lam.image_size is None):
            raise RecipeError("`policy.pretrained` looks through `lam`, which looks at no pictures; leave it out")
        own = policy.impala or policy.pretrained or policy.chunk or policy.state_columns
        if self.encoder is not None and own is not None:
            raise RecipeError("`encoder` embeds whole states; leave out the policy's impala, chunk and state_columns")
        if self.code_training is not None and policy.chunk is not None:
            raise RecipeError("`code_training` is an MLP's; leave out `policy.chunk`")

    def _check_parts(self) -> None:
        lam, latent, codes = self.lam, self.policy.target == "latent", self.code_training is not None
        if codes and (latent or lam is None or lam.quantiser is None or self.encoder is not None):
            fix = "with a `lam.quantiser` whose codes there are, without `encoder`, and with `policy.target: action`"
            raise RecipeError(f"`code_training` says nothing to this method; have it {fix}")
        if codes and (taken := self.policy.demonstrations) != "labelled":
            raise RecipeError(
                f"`policy.demonstrations: {taken}` with `code_training`: the policy is fine-tuned in "
                "the units of `labelled`; write that"
            )
        if (latent or codes) != (lam is not None):
            what = "imitates latents, and there is no `lam`" if latent else "imitates actions, and `lam` is not needed"
            raise RecipeError(f"`policy.target: {self.policy.target}` {what}; change one of them")
        separate = latent and lam is not None and not lam.joint and not lam.supervised
        parts = {"lam_training": lam is not None, "decoder_training": separate}
        for name, needed in (parts | {"encoder_training": self.encoder is not None}).items():
            if (getattr(self, name) is not None) != needed:
                raise RecipeError(f"`{name}` {'is missing' if needed else 'says nothing to this method; leave it out'}")
        untaught = lam is not None and not lam.joint and not lam.supervised
        if untaught and self.lam_training is not None and self.lam_training.loop.eval_every:
            raise RecipeError("`lam_training.loop.eval_every` with `lam.joint: false`: no decoder has learned; give 0")
        if any(training is not None and training.loop.eval_every for training in self._unchosen):
            raise RecipeError("`loop.eval_every` of a policy, an encoder or codes: nothing evaluates them; give 0")
        if self._keeps_best and not self.data.heldout:
            raise RecipeError("`loop.keep_best` chooses by the action error on `data.heldout`, which is empty")

    @property
    def needed(self) -> list[str]:
        """The data sets this method reads."""
        stage1 = [] if self.lam is None else ["labelled"] if self.lam.supervised else ["labelled", "unlabelled"]
        encoded = [] if self.encoder is None else ["unlabelled", "labelled"]
        kept = ["heldout"] if self._keeps_best else []
        return [*dict.fromkeys([*stage1, *encoded, self.policy.demonstrations, *kept])]

    @property
    def _chosen(self) -> "list[Training | None]":
        """Of parts that decode actions: the best weights on held-out ones can be kept."""
        return [self.lam_training, self.decoder_training]

    @property
    def _unchosen(self) -> "list[Training | None]":
        return [self.encoder_training, self.code_training, self.policy_training]

    @property
    def _keeps_best(self) -> bool:
        return any(training is not None and training.loop.keep_best for training in self._chosen)

    def is_done(self) -> bool:
        """True once the policy is trained."""
        return has_all(Path(self.run), "done.json")

    def execute(self) -> None:
        """Train what is not trained yet."""
        with done_when_whole(Path(self.run)):
            _Run(self).carry_out()


def _check_taken(name: str, dataset: DatasetConfig) -> None:
    """Refuse what no data could make right, and what is of mixtures: labels are what `labelled` names, all of them."""
    check_dataset(name, dataset)
    plain = DatasetConfig(dataset.path)
    for part in ("labelled_share", "only_labelled", "weight"):
        if getattr(dataset, part) != getattr(plain, part):
            raise RecipeError(
                f"`{name}.{part}: {getattr(dataset, part)}` says nothing here; leave it out, and name fewer episodes "
                "with `episodes_per_task`"
            )


class _Run:
    """One recipe being carried out, with its data in memory."""

    def __init__(self, recipe: ClamRecipe) -> None:
        self.recipe, self.folder = recipe, Path(recipe.run)
        self._loaded: dict[str, Trajectories] = {}

    def carry_out(self) -> None:
        lam = None
        if self.recipe.lam is not None:
            lam = self._train_lam(self.recipe.lam)
            if self.recipe.decoder_training is not None:
                lam = self._train_decoder(self.recipe.lam, self.recipe.decoder_training)
        if lam is not None and "heldout" in self.recipe.needed:
            self._measure(lam)
        if self.recipe.encoder is not None:
            self._train_encoder(self.recipe.encoder)
        if lam is not None and self.recipe.code_training is not None:
            self._train_codes(lam, self.recipe.code_training)
        self._train_policy(lam)

    def trajectories(self, name: str) -> "Trajectories":
        """The data sets of one of the recipe's lists, read once."""
        from data_mixtures.transitions import Trajectories

        if name not in self._loaded:
            data = self.recipe.data
            loaded = Trajectories.load(getattr(data, name), data.cameras, data.image_size)
            self._check_alike(name, loaded)
            self._loaded[name] = loaded
        return self._loaded[name]

    def _check_alike(self, name: str, loaded: "Trajectories") -> None:
        """All lists show one robot at one rate, and those with labels the same actions."""
        if name in ("labelled", "heldout") and not loaded.action_mask.any():
            raise ValueError(f"`data.{name}` has no action columns: name data sets that have, or an `embodiment`")
        for other, known in self._loaded.items():
            with_labels = {name, other} == {"labelled", "heldout"}
            for what, same in (
                ("robot", loaded.robot == known.robot),
                ("state columns", bool((loaded.state_mask == known.state_mask).all())),
                ("action columns", not with_labels or bool((loaded.action_mask == known.action_mask).all())),
                ("rate", abs(loaded.control_hz - known.control_hz) < 1e-3 * known.control_hz),
            ):
                if not same:
                    raise ValueError(f"`data.{name}` and `data.{other}` differ in their {what}: all are of one robot")

    def windows(self, name: str, context: int, future: int = 1) -> "Windows":
        from data_mixtures.transitions import Windows

        return Windows(self.trajectories(name), context, future)

    def sizes(self, labelled: "Trajectories") -> "Sizes":
        from lam.clam.model import Sizes

        states, actions = (mask.nonzero()[:, 0].tolist() for mask in (labelled.state_mask, labelled.action_mask))
        data = self.recipe.data
        cameras = len(data.cameras)
        return Sizes(states, actions, data.context, cameras, data.image_size if cameras else 0)

    def statistics(self, observed: "Trajectories", labelled: "Trajectories") -> "Statistics":
        from lam.clam.standard import Statistics

        return Statistics.of(observed, labelled, self.recipe.data.spread_floor)

    def _train_lam(self, config: LamConfig) -> Path:
        from data_mixtures.transitions import Grounding, Transitions
        from lam.clam.stage import ClamStage

        recipe, data, training = self.recipe, self.recipe.data, self.recipe.lam_training
        assert training is not None
        labelled = self.windows("labelled", data.context, config.predicted_steps)
        if config.supervised:
            source = Transitions(labelled, recipe.seed, labelled=True)
            observed = self.trajectories("labelled")
        else:
            grounding = Grounding(labelled, data.labelled_every, data.labelled_batch) if config.joint else None
            windows = self.windows("unlabelled", data.context, config.predicted_steps)
            source = Transitions(windows, recipe.seed, grounding=grounding, batch_size=training.loop.batch_size)
            observed = self.trajectories("unlabelled")
        sizes = self.sizes(self.trajectories("labelled"))
        stage = ClamStage(config, sizes, self.statistics(observed, self.trajectories("labelled")), recipe.seed)
        return self._train(stage, source, training, "lam")

    def _train_decoder(self, config: LamConfig, training: Training) -> Path:
        from data_mixtures.transitions import Transitions
        from lam.clam.stage import ClamStage

        recipe, labelled = self.recipe, self.trajectories("labelled")
        source = Transitions(self.windows("labelled", recipe.data.context), recipe.seed, labelled=True)
        start = self.folder / "lam" / "model"
        statistics = self.statistics(self.trajectories("unlabelled"), labelled)
        stage = ClamStage(config, self.sizes(labelled), statistics, recipe.seed, start, trains="decoder")
        return self._train(stage, source, training, "decoder")

    def _measure(self, lam: Path) -> None:
        """Write heldout.json: what the finished model makes of held-out trajectories."""
        from lam.clam.heldout import heldout_errors
        from lam.clam.stage import load_lam

        assert self.recipe.lam is not None
        windows = self.windows("heldout", self.recipe.data.context, self.recipe.lam.predicted_steps)
        write_whole(self.folder / HELDOUT_FILE, json.dumps(heldout_errors(load_lam(lam), windows), indent=1) + "\n")

    def _train_encoder(self, config: DynamoConfig) -> None:
        from data_mixtures.transitions import Transitions
        from lam.clam.dynamo import DynamoStage

        recipe, labelled = self.recipe, self.trajectories("labelled")
        assert recipe.encoder_training is not None
        source = Transitions(self.windows("unlabelled", recipe.data.context), recipe.seed)
        statistics = self.statistics(self.trajectories("unlabelled"), labelled)
        stage = DynamoStage(config, self.sizes(labelled), statistics, recipe.seed)
        self._train(stage, source, recipe.encoder_training, "encoder")

    def _train_codes(self, lam: Path, training: Training) -> None:
        from data_mixtures.transitions import Transitions
        from lam.clam.code_stage import CodeStage
        from lam.clam.relabel import coded
        from lam.clam.stage import load_lam

        recipe, labelled, model = self.recipe, self.trajectories("labelled"), load_lam(lam)
        assert model.quantiser is not None
        codes = coded(model, self.windows("unlabelled", recipe.data.context))
        windows = self.windows("unlabelled", recipe.policy.frame_stack - 1)
        source = Transitions(windows, recipe.seed, latents=codes)
        statistics = self.statistics(self.trajectories("unlabelled"), labelled)
        stage = CodeStage(recipe.policy, self.sizes(labelled), statistics, model.quantiser.code_sizes)
        self._train(stage, source, training, "codes")

    def _train_policy(self, lam: Path | None) -> None:
        from data_mixtures.transitions import Transitions
        from lam.clam.dynamo import load_encoder
        from lam.clam.policy_stage import PolicyStage

        recipe, config = self.recipe, self.recipe.policy
        clones = config.target == "action"
        demonstrations = self.trajectories(config.demonstrations)
        labelled = demonstrations if clones else self.trajectories("labelled")
        imitated, latents = (None, None) if lam is None or clones else self._imitated(lam)
        windows = self.windows(config.demonstrations, config.frame_stack - 1, config.horizon)
        source = Transitions(windows, recipe.seed, labelled=clones, latents=latents)
        stage = PolicyStage(
            config,
            self.sizes(labelled),
            self.statistics(demonstrations, labelled),
            imitated,
            demonstrations.robot,
            demonstrations.control_hz,
            None if recipe.encoder is None else load_encoder(self.folder / "encoder" / "model"),
            None if recipe.code_training is None else self.folder / "codes" / "model",
            recipe.data.cameras,
            recipe.seed,
        )
        self._train(stage, source, recipe.policy_training, "policy")

    def _imitated(self, lam: Path) -> "tuple[Imitated, Tensor]":
        from lam.clam.policy_stage import Imitated
        from lam.clam.relabel import relabelled
        from lam.clam.stage import load_lam

        config = self.recipe.policy
        model: LatentActionModel = load_lam(lam)
        windows = self.windows(config.demonstrations, self.recipe.data.context)
        latents = relabelled(model, windows, config.horizon)
        return Imitated.of(latents, model, config.standardise), latents

    def _train(self, stage: "Stage", source: "Transitions", training: Training, part: str) -> Path:
        from vla.train.loop import train

        recipe = self.recipe
        loop = replace(training.loop, seed=recipe.seed)
        train(stage, source, loop, training.optim, recipe.parallel, self.folder / part, self._evaluators(loop))
        return self.folder / part / "model"

    def _evaluators(self, loop: LoopConfig) -> "list[ActionError]":
        from data_mixtures.transitions import Transitions
        from lam.clam.stage import ActionError

        if not loop.eval_every or not self.recipe.data.heldout:
            return []
        windows = self.windows("heldout", self.recipe.data.context)
        return [ActionError(Transitions(windows, seed=0, labelled=True))]
