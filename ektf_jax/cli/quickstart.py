"""Findings 1 to 3 and EKTF's answer on synthetic clicks: `ektf quickstart --workdir=DIR`."""

import time

from absl import flags

from ektf_jax.cli import config, shell
from ektf_jax.report.paper import page
from ektf_jax.training import loop

_CONFIG = "configs/quickstart_sweep.py"
_WORKDIR = flags.DEFINE_string("workdir", "runs/quickstart", "Where the three runs and the report go.")


def main(argv: list[str]) -> None:
    """Train a single MLP, a plain mean ensemble and EKTF, then print a table and save a plot."""
    del argv
    workdir, start = shell.path(_WORKDIR), time.perf_counter()
    for name, run in config.load(_CONFIG)["runs"].items():
        print(f"\n{name}: transfer {run['transfer']['name']}, K = {run['ensemble']['num_students']}")
        result = loop.train(run, workdir / name)
    ceiling = result["dataset"]["source"]["test_bayes_auc"]
    table = page.write(workdir, workdir, title="Quickstart: synthetic clicks", ceiling=ceiling)
    print(f"\n{table}")
    print(f"Best possible test AUC, known from how the data was made: {ceiling:.4f}")
    print(f"Plot: {workdir / 'students.png'}   ({time.perf_counter() - start:.0f} s)")
