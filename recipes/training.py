"""The three training recipes: what their YAML holds, what is checked before any work, how each stage is put together.

Each is data + a stage's own configuration + the loop's three; the loop itself knows none of them. `loop.seed` is the
training seed: it also draws the samples and the stage's noise.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from data_mixtures.config import MixtureConfig
from data_mixtures.mixture import Mixture
from data_mixtures.quarantine import FILE_NAME as QUARANTINE_FILE
from data_mixtures.statistics.seen import FRAMES, Seen
from distill.stage import DistillConfig
from lam.latbot.config import LatBotConfig, PretrainedConfig
from recipes.checks import check_input, check_launch, check_mixture, on_first_rank, open_mixture, require_equal
from recipes.finished import has_all
from recipes.loading import RecipeError
from recipes.stand_in import StandInMixture
from vla.models.pi05.stage import ActionConfig
from vla.models.pi05.trainable import check_targets
from vla.train.config import LoopConfig, OptimConfig, ParallelConfig

if TYPE_CHECKING:
    from distill.stage import DistillStage
    from lam.latbot.stage import LatBotStage
    from vla.models.pi05.stage import ActionStage


@dataclass(frozen=True)
class LamRecipe:
    """Stage 1: pre-train the latent action model; its health is measured on `heldout` at the end.

    `cache_features` runs the frozen vision tower once a frame, before training, and keeps its output in the run
    folder; False runs it in every step.
    """

    stage: Literal["lam"]
    run: str
    data: MixtureConfig
    model: LatBotConfig
    loop: LoopConfig
    optim: OptimConfig
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    heldout: MixtureConfig | None = None
    cache_features: bool = True

    def check(self, made: set[Path], ranks: int | None = None) -> None:
        """Raise ValueError for what cannot run, before any work."""
        check_mixture("data", self.data, made)
        check_launch(self.loop, self.parallel, ranks)
        require_equal("data.window.frames", self.data.window.frames, "model.num_frames", self.model.num_frames)
        require_equal("data.window.horizon", self.data.window.horizon, "model.horizon", self.model.horizon)
        if self.heldout is not None:
            check_mixture("heldout", self.heldout, made)
            require_equal("heldout.window", self.heldout.window, "data.window", self.data.window)

    def is_done(self) -> bool:
        """True once it is trained and, if `heldout` is given, measured."""
        return has_all(Path(self.run), "done.json", *(["health.json"] if self.heldout else []))

    def execute(self) -> None:
        """Cache features, train, measure health."""
        from vla.train.loop import train

        run, seed = Path(self.run), self.loop.seed
        plain = open_mixture(self.data, seed, run)
        stage = self.stage_on(plain)
        mixture = self._cached(stage, plain) if self.cache_features else plain
        train(stage, mixture, self.loop, self.optim, self.parallel, run)
        if self.heldout is not None:
            self._measure(run)

    def stage_on(self, mixture: Mixture | StandInMixture) -> "LatBotStage":
        """The stage that is trained on this mixture."""
        from lam.latbot.stage import LatBotStage, tokenizer_for

        tokenizer = tokenizer_for(self.model, mixture.tasks)
        return LatBotStage(self.model, mixture.normalisation(), tokenizer, self.loop.seed)

    def stand_in(self) -> "tuple[LatBotStage, StandInMixture]":
        """The stage on data like the recipe's, without any of its files."""
        language = replace(self.model.language, tokenizer=None)
        bare = replace(self, model=replace(self.model, language=language, pretrained=PretrainedConfig()))
        vision = self.model.vision
        features = (vision.num_tokens, vision.feature_width) if self.cache_features else None
        mixture = StandInMixture(self.data, features=features)
        return bare.stage_on(mixture), mixture

    def smaller(self) -> list[dict[str, object]]:
        """Changes under which less is trained, the smallest first."""
        return []

    def _cached(self, stage: "LatBotStage", plain: Mixture) -> Mixture:
        """The mixture with the tower's features; its units were checked when `plain` was opened."""
        from lam.features import cache_features
        from lam.latbot.teacher import LatBotTower
        from vla.train.distributed import join

        run, world = Path(self.run), join(self.parallel)
        data = replace(self.data, vision_features=str(run / "features"))
        if world.is_main and not (run / "done.json").exists():
            cache_features(data, LatBotTower(stage), quarantine=plain.quarantine)
        world.barrier()
        mixture = Mixture(data, self.loop.seed)
        mixture.quarantine.write_to(run / QUARANTINE_FILE)
        return mixture

    def _measure(self, run: Path) -> None:
        from lam.health import write_health
        from lam.latbot.stage import load_teacher

        assert self.heldout is not None
        if on_first_rank() and not (run / "health.json").exists():
            write_health(run, *load_teacher(run / "model"), open_mixture(self.heldout, self.loop.seed, run))


@dataclass(frozen=True)
class DistillRecipe:
    """Stage 2: teach the student to foresee the teacher's latents from the first frame, keeping its language."""

    stage: Literal["distill"]
    run: str
    data: MixtureConfig
    objective: DistillConfig
    loop: LoopConfig
    optim: OptimConfig
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    heldout: MixtureConfig | None = None

    def check(self, made: set[Path], ranks: int | None = None) -> None:
        """Raise ValueError for what cannot run, before any work."""
        check_mixture("data", self.data, made)
        check_launch(self.loop, self.parallel, ranks)
        if self.data.latents is None:
            raise ValueError("`data.latents` is not set; name the columns the label step wrote, usually `latent`.")
        if self.heldout is not None:
            check_mixture("heldout", self.heldout, made)
        if self.objective.init_from is not None:
            check_input("objective.init_from", self.objective.init_from, made, "run the stage that makes it first.")

    def is_done(self) -> bool:
        """True once it is trained and, if `heldout` is given, measured."""
        return has_all(Path(self.run), "done.json", *(["heldout.json"] if self.heldout else []))

    def execute(self) -> None:
        """Train, then read held-out windows."""
        from distill.heldout import write_heldout
        from vla.train.loop import train

        run, seed = Path(self.run), self.loop.seed
        mixture = open_mixture(self.data, seed, run)
        stage = self.stage_on(mixture)
        train(stage, mixture, self.loop, self.optim, self.parallel, run)
        if self.heldout is not None and on_first_rank() and not (run / "heldout.json").exists():
            write_heldout(stage, open_mixture(self.heldout, seed, run), run)

    def stage_on(self, mixture: Mixture | StandInMixture) -> "DistillStage":
        """The stage that is trained on this mixture."""
        from distill.stage import DistillStage, LatentStatistics

        statistics = None
        if self.objective.standardise_latents:
            statistics = LatentStatistics.of(b.latents for b in mixture.windows(512) if b.latents is not None)
        objective = replace(self.objective, seed=self.loop.seed)
        texts = [*mixture.tasks, *mixture.subtasks]
        return DistillStage(objective, mixture.normalisation(), self.data.cameras, texts, statistics=statistics)

    def stand_in(self) -> "tuple[DistillStage, StandInMixture]":
        """The stage on data like the recipe's, without any of its files."""
        bare = replace(self, objective=replace(self.objective, init_from=None, tokenizer=None))
        model = self.objective.model
        latents = (model.latent.num_tokens, model.latent.width) if model.latent else None
        mixture = StandInMixture(self.data, model.max_text_tokens, model.action_dim, latents=latents)
        return bare.stage_on(mixture), mixture

    def smaller(self) -> list[dict[str, object]]:
        """Changes under which less is trained, the smallest first."""
        return []


@dataclass(frozen=True)
class ActionRecipe:
    """Stage 3, and behaviour cloning from scratch: fine-tune student and action expert on labelled demonstrations."""

    stage: Literal["finetune"]
    run: str
    data: MixtureConfig
    objective: ActionConfig
    loop: LoopConfig
    optim: OptimConfig
    parallel: ParallelConfig = field(default_factory=ParallelConfig)

    def check(self, made: set[Path], ranks: int | None = None) -> None:
        """Raise ValueError for what cannot run, before any work."""
        check_mixture("data", self.data, made)
        check_launch(self.loop, self.parallel, ranks)
        horizon = self.objective.model.horizon
        require_equal("data.window.horizon", self.data.window.horizon, "objective.model.horizon", horizon)
        if self.objective.init_from is not None:
            check_input("objective.init_from", self.objective.init_from, made, "run the stage that makes it first.")
        self.check_frozen()

    def check_frozen(self) -> None:
        """Raise RecipeError for frozen parts that cannot be, whatever files are there."""
        train, dtype = self.objective.train, self.objective.frozen_dtype
        if train in ("frozen_vlm", "lora") and self.objective.init_from is None:
            raise RecipeError(
                f"`objective.train: {train}` keeps the VLM as it starts, and without `objective.init_from` that is "
                "random: name a `model` folder or a published checkpoint, or use `train: full`."
            )
        if dtype == "bfloat16" and self.loop.dtype != "bfloat16":
            raise RecipeError(
                "`objective.frozen_dtype: bfloat16` cannot be multiplied in `loop.dtype: float32`: set `loop.dtype: "
                "bfloat16`, or leave frozen_dtype at float32."
            )
        if train == "lora":
            check_targets(self.objective.model, self.objective.lora)

    def is_done(self) -> bool:
        """True once it is trained."""
        return has_all(Path(self.run), "done.json")

    def execute(self) -> None:
        """Train."""
        from vla.train.loop import train

        mixture = open_mixture(self.data, self.loop.seed, Path(self.run))
        train(self.stage_on(mixture), mixture, self.loop, self.optim, self.parallel, Path(self.run))

    def stage_on(self, mixture: Mixture | StandInMixture) -> "ActionStage":
        """The stage that is trained on this mixture."""
        from vla.models.pi05.stage import ActionStage

        objective = replace(self.objective, seed=self.loop.seed)
        texts = [*mixture.tasks, *mixture.subtasks]
        return ActionStage(
            objective,
            mixture.normalisation(),
            self.data.cameras,
            texts,
            mixture.robot,
            self.data.image_size,
            windows=mixture.windows(512),
            seen=lambda: seen_of(mixture, self.data.cameras, self.objective.augment.crop),
        )

    def stand_in(self) -> "tuple[ActionStage, StandInMixture]":
        """The stage on data like the recipe's, without any of its files."""
        bare = replace(self, objective=replace(self.objective, init_from=None, tokenizer=None, fast_tokens=None))
        model = self.objective.model
        mixture = StandInMixture(self.data, model.max_text_tokens, model.action_dim)
        return bare.stage_on(mixture), mixture

    def smaller(self) -> list[dict[str, object]]:
        """Changes under which less is trained, the smallest first."""
        held = {"objective.frozen_dtype": "bfloat16", "loop.dtype": "bfloat16"}
        return [{"objective.train": train, **held} for train in ("lora", "frozen_vlm")]


def seen_of(mixture: Mixture | StandInMixture, cameras: Sequence[str], crop: float) -> Seen:
    """What the data's pictures look like, from frames spread over it; half a second where they are decoded already."""
    assert isinstance(mixture, Mixture), "a stand-in for data is never trained on"
    places = mixture.spread(FRAMES).tolist()
    batches = (mixture.batch_at(places[first : first + 32]) for first in range(0, len(places), 32))
    return Seen.of(batches, cameras, mixture.control_hz, crop)
