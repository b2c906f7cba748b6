"""What every experiment shares: the authors' settings (DESIGN of the paper's Section 4.1.5 and run logs)."""

from collections.abc import Collection, Mapping
from typing import Any

import ml_collections

from configs import published
from ektf_jax.errors import InputError, unknown


def get_config() -> ml_collections.ConfigDict:
    """EKTF over K homogeneous MLPs; an experiment names its data and changes what differs."""
    return ml_collections.ConfigDict(
        {
            # Initialisation, dropout and data order. The split has a seed of its own (experiments.prepare).
            "seed": 2024,
            "data": {
                # An encoded dataset. "" where the run generates its own into its working directory:
                # `synthetic` holds the arguments of ektf_jax.data.synthetic.SyntheticSpec.
                "path": "",
                "synthetic": {},
                "batch_size": 4096,
            },
            "embedding": {
                "dim": 16,
                # (l2 / 2) * sum(table^2) over all that a student reads of the table, mean over students: the
                # whole table where they share it.
                "l2": 0.01,
                # shared: one embedding for all students | own: one each | a number in [0, 1]: the share of
                # the `dim` columns that each student has to itself.
                "sharing": ml_collections.FieldReference("shared", field_type=object),
            },
            "ensemble": {
                # K, dealt out in turn over the kinds of students below, sorted by label.
                "num_students": 2,
                "students": {
                    # Any label; `name` is in ektf_jax.students.REGISTRY, or "package.module:Class" of your
                    # own; the rest are its arguments.
                    "mlp": {
                        "name": "mlp",
                        "hidden_units": (400, 400, 400),
                        "dropout": 0.1,
                        "batch_norm": True,
                    },
                },
                "fusion": "mean",  # mean | sum | concat (concat with transfer.name=none only)
                "stack": "auto",  # vmap | scan | auto: scan on a CPU, vmap elsewhere
                # Of dense layers; bfloat16 rounds the factors alone, and sums in float32.
                "products": "float32",
            },
            "transfer": {
                # ektf | kd | dml | online_kd | kdcl | eckd | dagfm | none; each reads the options under its
                # own name.
                "name": "ektf",
                # eckd and dagfm learn from finished runs: their working directories, relative to this run's
                # (in a sweep, their names).
                "teachers": (),
                # Passes of each student in a step, with different dropout, that are taught by their mean
                # (QNN-alpha has 2); 1: no self-transfer.
                "self": 1,
                "ektf": {
                    "teacher": "mean_logit",  # or mean_prob, as Eq. 2 is written
                    "stop_gradient": True,
                    "kd": True,
                    "dml": True,
                    "examination": True,
                    "per_sample": False,  # True: Eq. 4 as written
                },
                # weights: lambda of Eq. 2, the same for each student. The paper calls it a hyper-parameter
                # and names no value; `losses.kd_ctr_loss` by itself has 1 / K, so that they sum to 1.
                "kd": {"weights": 1.0, "teacher": "mean_logit", "stop_gradient": True},
                # reduction: sum, as Eq. 3, or mean over students, which makes l2 what it is elsewhere.
                "dml": {"stop_gradient": True, "reduction": "sum"},
                "online_kd": {"weight": 1.0, "temperature": 2.0, "divergence": "kl"},  # or mse
                # naive | minlogit | linear | general
                "kdcl": {"variant": "naive", "weight": 1.0, "temperature": 2.0, "divergence": "kl"},
                # One student; hints need hidden states, which `mlp` and `pnn` have.
                "eckd": {"soft_weight": 1.0, "hint_weight": 1.0, "temperature": 1.0},
                # distillation (of the teacher) | finetuning (of the distilled run, the teacher then)
                "dagfm": {"stage": "distillation", "ctr_weight": 0.1, "kd_weight": 921.6},
                "none": {},
            },
            "train": {
                "max_epochs": 100,
                "learning_rate": 1e-3,
                "clip_norm": 10.0,
                # At each evaluation without progress the learning rate falls; `patience` in a row stop.
                "patience": 2,
                "learning_rate_decay": 0.1,
                "min_learning_rate": 1e-6,
                "min_delta": 1e-6,
                "log_every": 20,  # steps
                "checkpoint_every": 1000,  # steps; also after each epoch
            },
            # Devices that share a run; a run may go on on another mesh. See docs/devices.md.
            "mesh": {
                "data": 1,  # batches by rows; -1: all devices that the others leave
                "student": 1,  # stacks of students by copies
                "table": 1,  # the embedding table and its optimiser state by rows
            },
        }
    )


def on_dataset(dataset: str, run: Mapping[str, Any] | None = None) -> ml_collections.ConfigDict:
    """The base on one of the published datasets, prepared in data/NAME; `run` changes its settings."""
    config = get_config()
    settings = published.DATASETS[dataset] | dict(run or {})
    config.data.path = f"data/{dataset}"
    config.data.batch_size = settings["batch_size"]
    config.embedding.dim = settings["dim"]
    config.embedding.l2 = float(settings["l2"])
    config.transfer.self = settings.get("self", 1)
    return config


def arguments(text: str, *choices: Collection[str]) -> list[str]:
    """The comma-separated argument of a config file, one of each of the choices. InputError if not."""
    values = text.split(",")
    if len(values) != len(choices):
        raise InputError(f"the config's argument {text!r} has {len(values)} parts, not {len(choices)}")
    for value, valid in zip(values, choices, strict=True):
        if value not in valid:
            raise unknown("the config's argument", value, valid)
    return values
