"""`stage: rollout`: a policy, a suite, and the engine that brings them together."""

import math
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from eval.engine.config import EngineConfig
from eval.libero.suite import LiberoSuite
from eval.locomotion.suite import LocomotionSuite
from eval.metaworld.suite import MetaWorldSuite
from eval.simpler.suite import SimplerSuite
from recipes.checks import check_alone, check_input
from recipes.finished import done_when_whole, has_all
from recipes.loading import RecipeError
from recipes.preflight import PreflightWish, look_first, passed_before, preflight_wish, refuse
from recipes.provenance import code_version

if TYPE_CHECKING:
    from eval.engine.drivers import ChunkPolicy, Driver
    from eval.suite import Suite

REFERENCES = ("expert", "random", "hold")


@dataclass(frozen=True)
class SuiteChoice:
    """The benchmark, one of these; `vla fields RECIPE` lists what each may say."""

    metaworld: MetaWorldSuite | None = None
    libero: LiberoSuite | None = None
    simpler: SimplerSuite | None = None
    locomotion: LocomotionSuite | None = None

    def __post_init__(self) -> None:
        if len(self._given) != 1:
            names = ", ".join(f.name for f in fields(self))
            raise ValueError(f"suite: name exactly one of {names}; {sorted(self._given) or 'none'} is given")

    @property
    def _given(self) -> "dict[str, Suite]":
        return {f.name: suite for f in fields(self) if (suite := getattr(self, f.name)) is not None}

    @property
    def chosen(self) -> "Suite":
        """The one that is given."""
        return next(iter(self._given.values()))


@dataclass(frozen=True)
class ModelOptions:
    """How a policy's folder is loaded.

    Attributes:
        device: cpu, cuda, cuda:1.
        dtype: Of the computation.
        robot: Whose numbers it takes and gives, where it was trained on several; servers and references need none.
        compiled: Compile the layers; the first chunk then takes minutes.
        graphs: Record and replay chunks as CUDA graphs.
    """

    device: str = "cpu"
    dtype: Literal["float32", "bfloat16"] = "float32"
    robot: str | None = None
    compiled: bool = False
    graphs: bool = False


@dataclass(frozen=True)
class ServerKeys:
    """What a server calls what it is sent, beside cameras; the defaults are openpi's for LIBERO, and our server's.

    Attributes:
        state: Key of the state.
        prompt: Key of the instruction.
    """

    state: str = "observation/state"
    prompt: str = "prompt"


@dataclass(frozen=True)
class RolloutRecipe:
    """Play a suite's episodes with a policy; `run` gets a row an episode (episodes.jsonl, results.parquet), and films.

    Attributes:
        stage: rollout.
        run: The folder.
        policy: A run folder with a `model`, a model folder, ws://HOST:PORT of a server that speaks openpi's protocol,
            or one of the references: `expert`, `random`, `hold`.
        arm: What tables call it.
        suite: The benchmark.
        engine: How it is carried out.
        demos: Demonstrations a task it was trained on; a label of every row.
        train_seed: Its training's seed; a label of every row.
        labels: Further labels of every row: what else tells this policy from others of its arm, as {latent_dim: 8}.
        cameras: The policy's camera, or the server's key, -> the suite's camera, where they are called differently.
        ensemble: Plan at every action (`execute: 1`) and average over the chunks that cover it, the i-th from the
            oldest weighing exp(-ensemble i); null carries chunks out as they are.
        model: How a policy's folder is loaded.
        server: What a server calls what it is sent.
        preflight: What is done about a preflight (docs/preflight.md), which comes before the first episode: `refuse`
            stops where something is wrong, `warn` says it and goes on, `off` looks at nothing.
        demonstrations: Folder of recorded episodes of the suite's tasks, for the preflight to play again.
    """

    stage: Literal["rollout"]
    run: str
    policy: str
    arm: str
    suite: SuiteChoice
    engine: EngineConfig = EngineConfig()
    demos: int | None = None
    train_seed: int | None = None
    labels: dict[str, int | float | str] = field(default_factory=dict)
    cameras: dict[str, str] = field(default_factory=dict)
    ensemble: float | None = None
    model: ModelOptions = ModelOptions()
    server: ServerKeys = ServerKeys()
    preflight: PreflightWish | bool = "refuse"
    demonstrations: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "preflight", preflight_wish(self.preflight))

    def check(self, made: set[Path], ranks: int | None = None) -> None:
        """The policy is there, or will be, and no field is given that it would ignore."""
        check_alone(self.stage, ranks)
        served, reference = _is_server(self.policy), self.policy in REFERENCES
        if not served and not reference:
            hint = f"fine-tune it first, name a server as ws://HOST:PORT, or write one of {', '.join(REFERENCES)}."
            part = "" if (Path(self.policy) / "model.safetensors").exists() else "model"
            check_input("policy", self.policy, made, hint, part=part)
        if taken := self.labels.keys() & {"demos", "train_seed"}:
            raise RecipeError(f"`labels.{min(taken)}` is a field of its own: write `{min(taken)}`.")
        for name, given, needed in (
            ("cameras", self.cameras, not reference),
            ("ensemble", self.ensemble is not None, not served and not reference),
            # a benchmark's recipe says its robot whatever plays it, so that --policy alone changes who does
            ("model", replace(self.model, robot=None) != ModelOptions(), not served and not reference),
            ("server", self.server != ServerKeys(), served),
        ):
            if given and not needed:
                raise RecipeError(f"`{name}` says nothing to `policy: {self.policy}`; leave it out.")
        if self.ensemble is not None and not 0 <= self.ensemble < math.inf:
            raise RecipeError(f"`ensemble`: {self.ensemble} is no weighting; give 0 (an even average) or more.")
        if self.ensemble is not None and self.suite.chosen.execute != 1:
            raise RecipeError("`ensemble` plans at every action: give the suite `execute: 1`.")

    def is_done(self) -> bool:
        """True once all of it is written."""
        return has_all(Path(self.run), "done.json")

    def execute(self) -> None:
        """Roll out, or go on."""
        from eval.engine.engine import evaluate

        if self._model is not None or self.demonstrations is not None:
            self.look_first()
        run, labels = Path(self.run), {"demos": self.demos, "train_seed": self.train_seed, **self.labels}
        with done_when_whole(run):
            code = {"code": code_version()}
            evaluate(self.suite.chosen, self._driver(), self.engine, run, self.arm, labels, code)

    def look_first(self, alone: bool = False) -> None:
        """The preflight, as `preflight` says; `alone` looks whatever it says, and whatever was found before.

        Raises:
            RecipeError: something is refused.
        """
        run = Path(self.run)
        if not alone and (self.preflight == "off" or passed_before(run)):
            return
        suite, model = self.suite.chosen, self._model
        report = look_first(run, suite, model, self.policy, self.demonstrations, self.cameras, self.model.robot)
        if alone or self.preflight == "refuse":
            refuse(report, run)

    @property
    def _model(self) -> Path | None:
        """The policy's folder; None of a server or a reference."""
        return None if _is_server(self.policy) or self.policy in REFERENCES else Path(self.policy)

    def _driver(self) -> "Driver":
        from eval.engine.drivers import ExpertDriver, HoldDriver, RandomDriver

        references = {"expert": ExpertDriver, "random": RandomDriver, "hold": HoldDriver}
        if self.policy in references:
            return references[self.policy]()
        return self._server_driver() if _is_server(self.policy) else self._policy_driver()

    def _server_driver(self) -> "Driver":
        from eval.engine.server_driver import Keys, ServerDriver

        return ServerDriver(self.policy, Keys(self.cameras, self.server.state, self.server.prompt))

    def _policy_driver(self) -> "Driver":
        from eval.engine.drivers import PolicyDriver
        from eval.engine.ensembling import EnsemblingDriver
        from vla.train.export import weights_digest

        folder = Path(self.policy)
        folder = folder / "model" if (folder / "model").is_dir() else folder
        policy, digest = self._loaded(folder), weights_digest(folder)
        if self.ensemble is not None:
            return EnsemblingDriver(policy, digest, self.ensemble, self.cameras)
        return PolicyDriver(policy, digest, self.cameras)

    def _loaded(self, folder: Path) -> "ChunkPolicy":
        """The policy in a model folder: one of lam.clam's, or a student."""
        from lam.clam.policy_files import is_cloned

        options = self.model
        if is_cloned(folder):
            from lam.clam.agent import ClonedAgent

            if options != ModelOptions(device=options.device, robot=options.robot):
                raise RecipeError("`model`: a policy of lam.clam knows `device` alone; leave the others out.")
            return ClonedAgent.from_pretrained(folder, options.device)
        from vla.policy import Policy

        return Policy.from_pretrained(
            folder,
            device=options.device,
            dtype=options.dtype,
            robot=options.robot,
            compiled=options.compiled,
            graphs=options.graphs,
        )


def _is_server(policy: str) -> bool:
    return policy.startswith(("ws://", "wss://"))
