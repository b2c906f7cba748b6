"""Which fields a finished run leans on: `ektf importance --workdir=DIR [--split=valid] [--out=DIR]`.

A field's values are shuffled among the rows, and the metric is computed again: what it loses is the field's
importance, of the ensemble and of each student.
"""

import json

from absl import flags

from ektf_jax import metrics
from ektf_jax.cli import shell
from ektf_jax.data.schema import SPLITS
from ektf_jax.files import write_text

_WORKDIR = flags.DEFINE_string("workdir", None, "The working directory of a finished run.", required=True)
_SPLIT = flags.DEFINE_enum("split", "valid", list(SPLITS), "Whose rows are shuffled.")
_DATA = flags.DEFINE_string("data", None, "Where the run's dataset is now, if it was moved.")
_METRIC = flags.DEFINE_enum("metric", "auc", metrics.ranking(), "What is lost.")
_REPEATS = flags.DEFINE_integer("repeats", 5, "Shuffles of each field.", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "Of the shuffles.")
_OUT = flags.DEFINE_string("out", None, "A directory for importance.csv, importance.png and importance.svg.")


def main(argv: list[str]) -> None:
    """Print a JSON line per field, the most important first: {"field", "ensemble", "ensemble_std", ...}."""
    import polars as pl  # these take seconds, which --help has not

    from ektf_jax.runs import load_run
    from ektf_jax.runs.importance import Importance, columns, permutation_importance

    del argv
    out = None if _OUT.value is None else shell.path(_OUT)
    run = load_run(shell.path(_WORKDIR), None if _DATA.value is None else shell.path(_DATA))
    found = permutation_importance(
        run, _SPLIT.value, metric=_METRIC.value, repeats=_REPEATS.value, seed=_SEED.value
    )
    names = [*(f"student_{k}" for k in range(run.students)), "ensemble"]
    order = [len(names) - 1, *range(len(names) - 1)]
    moved = [Importance(one.field, one.losses[:, order]) for one in found]
    table = pl.DataFrame(columns(moved, [names[k] for k in order]))
    for row in table.iter_rows(named=True):
        print(json.dumps(row, allow_nan=False))
    if out is not None:
        from ektf_jax.report import figures

        out.mkdir(parents=True, exist_ok=True)
        write_text(out / "importance.csv", table.write_csv())
        title = f"{_METRIC.value} of the ensemble that a field's shuffling costs, {_SPLIT.value}"
        losses = [one.losses[:, -1].tolist() for one in found]
        figures.save(figures.per_field([one.field for one in found], losses, title), out / "importance")
