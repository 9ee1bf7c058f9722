"""The README's table from a pipeline's run folder: `python benchmarks/results_table.py runs/study`.

Success at any step with Wilson 95 % intervals, and the differences distilled - arm as the report makes them.
"""

import sys
from pathlib import Path

from eval.report.results import Facet, facets, read_rollouts, tally
from eval.report.run_folder import read_run
from eval.results.differences import difference


def main(folder: Path) -> None:
    """Print one block for every number of demonstrations."""
    for facet in facets(read_rollouts(read_run(folder))):
        print(f"\n{facet.words}")
        for arm in facet.arms:
            print(_row(facet, arm.key))


def _row(facet: Facet, arm: str) -> str:
    rows = facet.of(arm)
    count = tally(rows)
    low, high = count.interval
    seeds = {seed: f"{tally(facet.of(arm, train_seed=seed)).mean:.2f}" for seed in facet.train_seeds(arm)}
    text = f"{arm:10} {count.mean:.2f} [{low:.2f}, {high:.2f}] of {count.trials}  by seed {seeds or '-'}"
    text += "  " + " ".join(f"{task[1]} {tally(facet.of(arm, task)).mean:.2f}" for task in facet.tasks)
    found = None if arm == "distilled" else difference(facet.of("distilled"), rows)
    if found is None:
        return text
    return f"{text}\n{'':10} distilled - {arm}: {found.mean:+.2f} [{found.low:+.2f}, {found.high:+.2f}]"


if __name__ == "__main__":
    run = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/study")
    if run.exists():
        main(run)
    else:
        print(f"{run} is not there: `vla run recipes/demo/study.yaml` makes it")
