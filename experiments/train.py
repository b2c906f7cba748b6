"""Trains one config: python -m experiments.train --config=FILE[:ARG] --workdir=DIR [--config.KEY=VALUE]."""

from pathlib import Path

from absl import flags
from ml_collections import config_flags

from configs import base
from ektf_jax.training import build, loop
from experiments import cli

_CONFIG = config_flags.DEFINE_config_file("config", None, "The experiment's config file.", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Where the run keeps its state and result.", required=True)
flags.mark_flag_as_required("config")


def main(argv: list[str]) -> None:
    """Train, then print the test metrics."""
    del argv
    config = _CONFIG.value.to_dict()
    build.check_keys(config, base.get_config().to_dict())
    result = loop.train(config, Path(_WORKDIR.value))
    test = result["test"]
    print(f"test ensemble  AUC {test['ensemble']['auc']:.6f}  logloss {test['ensemble']['logloss']:.6f}")
    for k, student in enumerate(test["students"]):
        print(f"test student {k}  AUC {student['auc']:.6f}  logloss {student['logloss']:.6f}")


if __name__ == "__main__":
    cli.run(main)
