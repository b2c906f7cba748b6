"""What makes an ensemble of CTR models better with K: one axis changed at a time, on ML-1M and Frappe.

    python -m experiments.sweep --config=configs/scaling.py:frappe --workdir=runs/scaling_frappe --list
    python -m experiments.sweep --config=configs/scaling.py:frappe,loss --workdir=runs/scaling_frappe

A run's name is AXIS/RECIPE_kK_sSEED. Every axis starts from `base`: EKTF over K MLPs with a table each,
weights without an average.

    loss      what the students are trained on: the plain mean of them (fused), their own losses (apart),
              Eq. 3 (dml), Eq. 6 with self-transfer between two passes (self), Eq. 6 over students that were
              trained by their own losses before (after)
    sharing   one table for all (shared), half of its columns (half)
    members   kernels shared too, each student with scales of its own (adapters), under `apart`
    average   the moving average of weights, decay .999 (Frappe, whose epochs are short: .99): of `base` (ema)
              and by their own losses (ema_apart), and so of EKTF_Latest's students and of the mixture
              (ema_latest_apart, ema_mixture_apart), and of QNN-alpha (ema_qnn, ema_qnn_apart); with more
              patience and a rate that never falls (steady)
    students  QNN-alpha with self-transfer, EKTF_Latest's students, a mixture of QNN-alpha, FCN and FINAL(2B),
              each under Eq. 6 and by their own losses (apart); QNN-alpha with more patience before the rate
              falls
"""

import copy
import itertools
from typing import Any

import ml_collections

from configs import base, ektf_latest, ektf_mlp, published

SEEDS = (2024, 2025, 2026)
FURTHER = (2027, 2028)  # where a claim is made
SIZES = (1, 2, 4, 6, 10)
AXES = ("base", "loss", "sharing", "members", "average", "students")


def get_config(dataset_and_axis: str = "frappe") -> ml_collections.ConfigDict:
    dataset, *axes = dataset_and_axis.split(",")
    base.arguments(dataset, published.DATASETS)
    for axis in axes:
        base.arguments(axis, AXES)
    runs: dict[str, ml_collections.ConfigDict] = {}
    for axis, recipes in _recipes(dataset).items():
        for name, recipe in recipes.items() if axis in (axes or AXES) else ():
            claimed = name in ("mlp", "apart", "ema", "ema_apart")
            ends = [(size, seed) for size in (2, 10) for seed in FURTHER] if claimed else []
            for size, seed in (*itertools.product(_sizes(axis, name), SEEDS), *ends):
                run = runs[f"{axis}/{name}_k{size}_s{seed}"] = copy.deepcopy(recipe)
                run.seed, run.ensemble.num_students = seed, size
                run.train.init_from = tuple(f"{source}_k{size}_s{seed}" for source in recipe.train.init_from)
    return ml_collections.ConfigDict({"runs": runs})


def _sizes(axis: str, name: str) -> tuple[int, ...]:
    """The Ks of a recipe: three models come in threes, and at K = 1 all MLPs are `apart`."""
    if "latest" in name or "mixture" in name:
        return (3, 6, 9)
    if axis == "members":
        return (2, 4, 6, 10, 32)
    return SIZES if axis == "average" or name in ("apart", "qnn") else SIZES[1:]


def _recipes(dataset: str) -> dict[str, dict[str, ml_collections.ConfigDict]]:
    own: dict[str, Any] = {"embedding.sharing": "own"}
    apart: dict[str, Any] = {"transfer.ektf.kd": False, "transfer.ektf.dml": False}
    averaged: dict[str, Any] = {"train.ema": 0.99 if dataset == "frappe" else 0.999}
    steady = averaged | {"train.learning_rate_decay": 1.0, "train.patience": 5}
    origin = _changed(ektf_mlp.get_config(dataset), own)
    latest = _changed(ektf_latest.get_config(dataset), own)
    model, settings = published.settings("qnn", dataset, alone=False)
    qnn = _changed(base.on_dataset(dataset, settings), own)
    qnn.ensemble.students = {"qnn": model}
    mixture = copy.deepcopy(qnn)
    for name in ("fcn", "final2b"):
        mixture.ensemble.students[name] = published.settings(name, dataset, alone=False)[0]
    return {
        "base": {"mlp": origin},
        "loss": {
            "fused": _changed(origin, {"transfer.name": "none"}),
            "apart": _changed(origin, apart),
            "dml": _changed(origin, {"transfer.name": "dml", "transfer.dml.reduction": "mean"}),
            "self": _changed(origin, {"transfer.self": 2}),
            "after": _changed(origin, {"train.init_from": ("loss/apart",)}),
        },
        "sharing": {
            "shared": _changed(origin, {"embedding.sharing": "shared"}),
            "half": _changed(origin, {"embedding.sharing": 0.5}),
        },
        "members": {"adapters": _changed(origin, apart | {"ensemble.members": "adapters"})},
        "average": {
            "ema": _changed(origin, averaged),
            "ema_apart": _changed(origin, apart | averaged),
            "ema_latest_apart": _changed(latest, apart | averaged),
            "ema_mixture_apart": _changed(mixture, apart | averaged),
            "ema_qnn": _changed(qnn, averaged),
            "ema_qnn_apart": _changed(qnn, apart | averaged),
            "steady": _changed(origin, steady),
            "steady_apart": _changed(origin, apart | steady),
            "steady_latest_apart": _changed(latest, apart | steady),
            "steady_qnn": _changed(qnn, steady),
            "steady_qnn_apart": _changed(qnn, apart | steady),
        },
        "students": {
            "qnn": qnn,
            "qnn_apart": _changed(qnn, apart),
            "qnn_patient": _changed(qnn, {"train.patience": 5}),
            "latest": latest,
            "latest_apart": _changed(latest, apart),
            "mixture": mixture,
            "mixture_apart": _changed(mixture, apart),
        },
    }


def _changed(config: ml_collections.ConfigDict, values: dict[str, Any]) -> ml_collections.ConfigDict:
    made = copy.deepcopy(config)
    made.update_from_flattened_dict(values)
    return made
