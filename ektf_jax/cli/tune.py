"""Searches the best settings of a config: `ektf tune --config=FILE[:ARG] --trials=N --workdir=DIR`.

Each trial is a run in DIR/trials/NUMBER, chosen by Optuna's TPE sampler and ended early by its median pruner.
--space=FILE.yaml says which keys vary and how; without it, learning rate, L2 and what the students have.
What counts is the best AUC of the ensemble on validation data; test data decide nothing. Started again, or
several times at once on the same DIR, the search goes on and repeats no trial.

--finalists=M --seeds=S trains the M best with S seeds in all; the best mean wins. DIR/report.html shows what
was found, and DIR/best.py is the config of the winner: `ektf train --config=DIR/best.py --workdir=RUN`.
`ektf report --about=searches` compares several searches, by their search.json.
"""

import importlib.util

from absl import flags

from ektf_jax.cli import config, shell
from ektf_jax.files import write_text

# Said at once, and not imported for --help.
if importlib.util.find_spec("optuna") is None:
    raise ModuleNotFoundError("No module named 'optuna'", name="optuna")

_CONFIG = config.define()
_SPACE = flags.DEFINE_string(
    "space", None, "A YAML file: keys of the config, and the values that each may have (docs/tuning.md)."
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Where the search is.", required=True)
_TRIALS = flags.DEFINE_integer(
    "trials", None, "How many trials are complete or pruned at the end, in all.", lower_bound=1, required=True
)
_FINALISTS = flags.DEFINE_integer("finalists", 1, "How many of the best have further seeds.", lower_bound=1)
_SEEDS = flags.DEFINE_integer("seeds", 1, "Seeds of each finalist, the config's among them.", lower_bound=1)


def main(argv: list[str]) -> None:
    """Train the trials and finalists that are left, then print the winner and write the page."""
    from ektf_jax.report import tables, tuned  # these take seconds, which --help has not
    from ektf_jax.runs import space, tune

    del argv
    settings, directory = config.read_run(_CONFIG), shell.path(_WORKDIR)
    given = space.default(settings) if _SPACE.value is None else space.read(shell.path(_SPACE), settings)
    search = tune.open_search(settings, given, directory)
    tune.work(search, _TRIALS.value)
    finalists = tune.finals(search, _FINALISTS.value, _SEEDS.value)
    winner = finalists[0]
    test = tune.metrics_on_test(search, winner)
    best = space.varied(settings, given, winner.settings)
    about = f"Trial {winner.number} of `ektf tune`: AUC {winner.mean:.6f} on validation data."
    write_text(directory / "best.py", tune.config_file(best, about))
    found = tune.result_of(search, finalists)
    found.write(directory)
    tuned.write(found, test, directory)
    print("\n".join(f"{key} = {value}" for key, value in winner.settings.items()))
    print(f"trial {winner.number}  valid AUC {tables.spread(list(winner.aucs.values()), 6)}")
    for name in ("auc", "logloss"):
        print(f"test {name}  {tables.spread([metrics[name] for metrics in test.values()], 6)}")
    print(f"{directory / 'best.py'} is its config, {directory / 'report.html'} shows the search")
