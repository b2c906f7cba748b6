"""Trains one config: python -m experiments.train --config=FILE[:ARG] --workdir=DIR [--config.KEY=VALUE]."""

from pathlib import Path

from absl import flags
from ml_collections import config_flags

from configs import base
from ektf_jax.errors import InputError
from ektf_jax.training import build, loop
from experiments import cli

# An unknown key is accepted here, so that build.check_keys can name it and the nearest valid one.
_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "The experiment's config file.", lock_config=False, accept_new_attributes=True
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Where the run keeps its state and result.", required=True)
flags.mark_flag_as_required("config")


def main(argv: list[str]) -> None:
    """Train, then print the test metrics."""
    del argv
    try:
        config = _CONFIG.value.to_dict()
    except OSError as error:  # raised at the first look at a config file that is not there
        raise InputError(str(error)) from None
    build.check_keys(config, base.get_config().to_dict())
    result = loop.train(config, Path(_WORKDIR.value))
    test = result["test"]
    print(f"test ensemble  AUC {test['ensemble']['auc']:.6f}  logloss {test['ensemble']['logloss']:.6f}")
    labels = build.student_labels(result["config"])
    for k, (label, student) in enumerate(zip(labels, test["students"], strict=False)):
        print(f"test student {k} ({label})  AUC {student['auc']:.6f}  logloss {student['logloss']:.6f}")


if __name__ == "__main__":
    cli.run(main)
