"""`vla label` as a recipe: a teacher writes its latents beside the data."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from data_mixtures.config import DatasetConfig, MixtureConfig
from data_mixtures.mixture import Mixture
from data_mixtures.quarantine import FILE_NAME as QUARANTINE_FILE
from lam.teacher import LatentTeacher
from recipes.checks import check_alone, check_input, check_mixture
from recipes.finished import done_when_whole, has_all


@dataclass(frozen=True)
class PcaConfig:
    """Shape of the control teacher's latents; give it that of the teacher it stands beside."""

    scene_tokens: int
    motion_tokens: int
    latent_dim: int
    num_windows: int = 2048


@dataclass(frozen=True)
class LabelRecipe:
    """Write a teacher's latents as columns of copies of data sets, at `run/<name>`.

    Attributes:
        teacher: run folder of a finished stage 1, or `pca` for the control without a model.
        data: what the teacher reads: cameras, window and image size; `pca` is fitted on its data sets.
        datasets: name -> data set folder to label.
        column: prefix of the columns.
        pca: needed with `teacher: pca`.
        autocast: compute in bfloat16.
    """

    stage: Literal["label"]
    run: str
    teacher: str
    data: MixtureConfig
    datasets: dict[str, str]
    column: str = "latent"
    pca: PcaConfig | None = None
    autocast: bool = True

    def check(self, made: set[Path], ranks: int | None = None) -> None:
        """Raise ValueError for what cannot run, before any work."""
        check_alone(self.stage, ranks)
        check_mixture("data", self.data, made)
        for name, path in self.datasets.items():
            check_input(f"datasets.{name}", path, made, "record or download it first.")
        if self.teacher == "pca" and self.pca is None:
            raise ValueError("`teacher: pca` needs `pca:` with scene_tokens, motion_tokens and latent_dim.")
        if self.teacher != "pca":
            check_input("teacher", self.teacher, made, "run stage 1 first, or write `pca`.", part="model")

    def is_done(self) -> bool:
        """True once all of it is written."""
        return has_all(Path(self.run), "done.json")

    def execute(self) -> None:
        """Label every data set, or go on where it was."""
        from lam.label import label

        run = Path(self.run)
        with done_when_whole(run):
            teacher, features = self._teacher()
            for name, source in self.datasets.items():
                label(
                    teacher,
                    source,
                    run / name,
                    cameras=self.data.cameras,
                    image_size=self.data.image_size,
                    name=self.column,
                    vision_features=features,
                    on_progress=_say(name),
                    quarantine=run / QUARANTINE_FILE,
                    strict=self.data.strict,
                )

    def _teacher(self) -> tuple[LatentTeacher, str | None]:
        """The teacher, and the folder where its frozen tower's features of every data set lie."""
        if self.pca is not None and self.teacher == "pca":
            from lam.pca import PcaTeacher

            tokens = self.pca.scene_tokens + self.pca.motion_tokens
            mixture = Mixture(replace(self.data, latents=None, vision_features=None), seed=0)
            shape = (tokens, self.pca.scene_tokens, self.pca.latent_dim)
            return PcaTeacher.fit(mixture, *shape, self.pca.num_windows), None
        from lam.features import cache_features
        from lam.latbot.teacher import LatBotTeacher, LatBotTower

        teacher = LatBotTeacher.load(Path(self.teacher) / "model", autocast=self.autocast)
        features = str(Path(self.teacher) / "features")  # stage 1 left those of its own data sets here
        sources = [DatasetConfig(source, labelled_share=0.0) for source in self.datasets.values()]
        cache_features(
            replace(self.data, datasets=sources, latents=None, vision_features=features), LatBotTower(teacher.stage)
        )
        return teacher, features


def _say(name: str) -> Callable[[int, int], None]:
    from rich.progress import Progress

    bar = Progress()
    task = bar.add_task(f"label {name}", total=None)
    bar.start()

    def show(done: int, total: int) -> None:
        bar.update(task, completed=done, total=total)
        if done >= total:
            bar.stop()

    return show
