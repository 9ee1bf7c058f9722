"""The model card: README.md of a repository, made from what the run holds, with names that cannot break it."""

import json
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from vla.hub.facts import Base, RunFacts

_GEMMA = "https://ai.google.dev/gemma/terms"
_WHAT = {
    "lam": "A latent action model: it sees a clip and says what changes in it, as latent tokens.",
    "distill": "A vision-language model of π0.5's layout, taught to predict a latent action model's tokens. Not yet a "
    "policy: fine-tune it on demonstrations first.",
    "finetune": "A vision-language-action policy of π0.5's layout: images, state and an instruction to action chunks.",
}
_TAKEN_BY = {"lam": "teacher: runs/{}", "distill": "objective.init_from: runs/{}/model"}


class Safe(str):
    """Text that stands in the card as it is; everything else is escaped."""


@dataclass(frozen=True)
class Success:
    """Rollouts that succeeded at any step: of this model on one task, or of a whole arm of a study (`task` "all").

    low, high: 95 % interval of the success probability.
    """

    suite: str
    task: str
    policy: str
    demos: int | None
    successes: int
    trials: int
    low: float
    high: float


@dataclass(frozen=True)
class Stated:
    """What only its maker can say: the licence and the Hub names of the weights it started from."""

    licence: str | None = None
    base_models: tuple[str, ...] = ()


def write_card(
    facts: RunFacts,
    repo: str,
    tag: str,
    stated: Stated,
    rows: Sequence[Success] = (),
    others: Sequence[Success] = (),
) -> str:
    """The card's text; the same run gives the same bytes.

    Args:
        facts: of the run.
        repo: `user/name`, as the Hub accepts it.
        tag: the revision the card names.
        stated: by the one who pushes.
        rows: rollouts of this very model, one a task.
        others: what else was measured in the same study, one a policy.
    """
    environment = Environment(
        loader=PackageLoader("vla.hub", "."),
        finalize=lambda value: value if isinstance(value, Safe) else plain(str(value)),
        trim_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
        autoescape=False,  # Markdown, not HTML: `plain` escapes for both
    )
    licence, why = choose_licence(facts.base, stated.licence)
    return environment.get_template("card.md.j2").render(
        metadata=Safe(_metadata(facts, licence, stated)),
        title=repo.split("/")[-1],
        facts=facts,
        what=Safe(_WHAT.get(facts.stage, "A model of this project.")),
        started=_started(facts.base),
        licence_line=licence,
        licence_words=Safe(" ".join([why, *_base_licences(facts.base)])),
        snippet=Safe(_snippet(facts, repo, tag)) if facts.stage == "finetune" else "",
        repo_safe=Safe(repo),
        tag_safe=Safe(tag),
        name_safe=Safe(repo.split("/")[-1]),
        recipe_line=Safe(_TAKEN_BY.get(facts.stage, "policy: runs/{}").format(repo.split("/")[-1])),
        rows=rows,
        others=others,
        training=list(_training(facts)),
        limits=[Safe(limit) for limit in _limits(facts, rows)],
    )


def plain(text: str) -> str:
    """`text` as words in Markdown, whatever stands in it: no markup, no HTML, no link, one line.

    Punctuation becomes character references, which Markdown shows and never obeys.
    """
    text = "".join(" " if c in "\n\r\t" else c for c in text if c in "\n\r\t" or unicodedata.category(c)[0] != "C")
    text = re.sub(r"[^\w\s.,/%+–-]|(?<!\w)_|_(?!\w)|(?<=www)\.", lambda m: f"&#{ord(m[0])};", text.strip())
    text = re.sub(r"^[-+.]", lambda m: f"&#{ord(m[0])};", text)
    return re.sub(r"^(\d+)\.(?!\S)", r"\1&#46;", text)


def choose_licence(base: Base, stated: str | None) -> tuple[str, str]:
    """(the Hub's licence id, a sentence on where it comes from). Nothing is assumed without saying so."""
    gemma = [weights.name for weights in base.published if weights.gemma]
    names = ", ".join(plain(name) for name in gemma)
    if stated is not None:
        words = f"{plain(stated)}, as stated by the one who pushed it."
        if gemma and stated != "gemma":
            words += f" The weights it started from ({names}) descend from Gemma: [Gemma's terms]({_GEMMA}) bind too."
        return stated, words
    if gemma:
        return "gemma", (
            f"[Gemma's terms of use]({_GEMMA}): the weights it started from ({names}) descend from PaliGemma, judged "
            "by their name, size or own card. No other licence was stated."
        )
    return "unknown", "Unknown: none was stated. Ask before using it."


def _base_licences(base: Base) -> Iterator[str]:
    for weights in base.published:
        said = plain(weights.licence) if weights.licence else "not known here"
        yield f"Licence of {plain(weights.name)}: {said}."
    for name in base.unknown:
        yield f"Licence of {plain(name)}: not known here."


def _metadata(facts: RunFacts, licence: str, stated: Stated) -> str:
    bases = stated.base_models or tuple(weights.repo for weights in facts.base.published if weights.repo)
    data = sorted({name.hub_id for name in facts.data if name.hub_id})
    student = facts.stage in ("distill", "finetune")
    fields = {
        "license": licence,
        "library_name": "lerobot" if facts.lerobot else "vla",
        "pipeline_tag": "robotics",
        "base_model": list(bases),
        "datasets": data,
        "tags": ["robotics", *(["vision-language-action", "pi05"] if student else ["latent-actions"])],
    }
    kept = {name: value for name, value in fields.items() if value}
    return yaml.safe_dump(kept, sort_keys=False, allow_unicode=True, width=1000)


def _started(base: Base) -> str:
    through = f", through {', '.join(base.through)}" if base.through else ""
    names = [*(weights.name for weights in base.published), *(f"{name} (not on this machine)" for name in base.unknown)]
    return (", ".join(names) or "random weights") + through


def _snippet(facts: RunFacts, repo: str, tag: str) -> str:
    images = ", ".join(f"{json.dumps(camera)}: image" for camera in facts.cameras)
    chunk = f"  # [{facts.horizon}, ...]" if facts.horizon else ""
    return (
        "from vla.policy import Observation, Policy\n\n"
        f"policy = Policy.from_pretrained({json.dumps(repo)}, revision={json.dumps(tag)})\n"
        f'actions = policy.act(Observation({{{images}}}, state, "what to do")){chunk}'
    )


def _training(facts: RunFacts) -> Iterator[tuple[str, str]]:
    if facts.step is not None:
        of = f" of {facts.steps:,}" if facts.steps and facts.steps != facts.step else ""
        yield "steps", f"{facts.step:,}{of}"
    for name, path in (
        ("batch", ("loop", "batch_size")),
        ("precision", ("loop", "dtype")),
        ("EMA", ("loop", "ema")),
        ("seed", ("loop", "seed")),
        ("peak learning rate", ("optim", "lr")),
        ("weight decay", ("optim", "weight_decay")),
        ("loss", ("objective", "loss")),
        ("parallel", ("parallel", "kind")),
    ):
        value = facts.field(*path)
        if value is not None:
            yield name, str(value)
    if facts.wall_seconds is not None:
        yield "wall time", f"{facts.wall_seconds / 3600:.2f} h"
    if facts.code:
        yield "code", facts.code


def _limits(facts: RunFacts, rows: Sequence[Success]) -> Iterator[str]:
    if facts.stage != "finetune":
        yield "It gives no actions by itself."
    elif rows:
        yield "Success was measured in simulation, on the tasks above. Other tasks, scenes and robots: not measured."
    else:
        yield "Success was not measured."
    if facts.stage == "finetune":
        yield "Safety on a real robot: not measured. Keep a hand on the stop."
    if not facts.finished:
        yield "Training was not finished when this was pushed."
    if any(data.episodes is None for data in facts.data):
        yield "How many episodes some data sets hold was not known on the machine that pushed this."
    if facts.base.unknown:
        yield "Some of the weights it started from were not on that machine: what they are is not known."
    yield "Absolute paths in the recipe are cut to their last part."
