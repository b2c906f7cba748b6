"""Trains one config: `ektf train --config=FILE[:ARG] --workdir=DIR [--config.KEY=VALUE]`."""

from absl import flags

from ektf_jax.cli import config, shell
from ektf_jax.config import Config

_CONFIG = config.define()
_DISTRIBUTED = flags.DEFINE_string(
    "distributed",
    None,
    "Join the other processes of this job: `auto` on Slurm, Open MPI, Kubernetes and TPU pods, which say"
    " where they are, or HOST:PORT,PROCESSES,INDEX with the address of process 0.",
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Where the run keeps its state and result.", required=True)


def main(argv: list[str]) -> None:
    """Train, then print the test metrics."""
    from ektf_jax.training import loop  # seconds, which --help has not

    del argv
    if _DISTRIBUTED.value is not None:
        shell.join(_DISTRIBUTED.value)
    settings = config.read_run(_CONFIG)
    result = loop.train(settings, shell.path(_WORKDIR))
    test = result["test"]
    print(f"test ensemble  AUC {test['ensemble']['auc']:.6f}  logloss {test['ensemble']['logloss']:.6f}")
    labels = Config.from_dict(result["config"]).ensemble.labels
    for k, (label, student) in enumerate(zip(labels, test["students"], strict=False)):
        print(f"test student {k} ({label})  AUC {student['auc']:.6f}  logloss {student['logloss']:.6f}")
