"""The one table from a recipe's `stage:` to the dataclass its YAML is parsed into."""

from recipes.demonstrations import RecordRecipe, ReportRecipe
from recipes.heldout_tables import HeldoutTableRecipe
from recipes.labelling import LabelRecipe
from recipes.latent_actions import ClamRecipe
from recipes.pipeline import PipelineRecipe
from recipes.rollouts import RolloutRecipe
from recipes.tables import TableRecipe
from recipes.training import ActionRecipe, DistillRecipe, LamRecipe

STAGES: dict[str, type] = {
    "pipeline": PipelineRecipe,
    "record": RecordRecipe,
    "lam": LamRecipe,
    "clam": ClamRecipe,
    "label": LabelRecipe,
    "distill": DistillRecipe,
    "finetune": ActionRecipe,
    "rollout": RolloutRecipe,
    "report": ReportRecipe,
    "table": TableRecipe,
    "heldout_table": HeldoutTableRecipe,
}
