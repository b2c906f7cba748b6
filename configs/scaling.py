"""What makes an ensemble of CTR models better with K: one axis changed at a time, on ML-1M and Frappe.

    python -m experiments.sweep --config=configs/scaling.py:frappe --workdir=runs/scaling_frappe --list
    python -m experiments.sweep --config=configs/scaling.py:frappe,loss --workdir=runs/scaling_frappe

A run's name is AXIS/RECIPE_kK_sSEED. Every axis starts from `base`: EKTF over K QNN-alphas with a table each,
self-transfer between two passes, weights without an average.

    loss      what the students are trained on: the plain mean of them (fused), the mean of their own losses
              (apart), Eq. 3 (dml), Eq. 6 without self-transfer (noself)
    sharing   one table for all (shared), half of its columns (half)
    members   kernels shared too, each student with scales of its own (adapters), under `apart`
    students  MLPs under Eq. 6 and apart, EKTF_Latest's, a mixture of QNN-alpha, FCN and FINAL(2B)
    average   the moving average of weights, decay .999
"""

import copy
import itertools

import ml_collections

from configs import base, ektf_latest, ektf_mlp, published

SEEDS = (2024, 2025, 2026)
FURTHER = (2027, 2028)  # where a claim is made
SIZES = (1, 2, 4, 6, 10)
AXES = ("base", "loss", "sharing", "members", "students", "average")


def get_config(dataset_and_axis: str = "frappe") -> ml_collections.ConfigDict:
    dataset, *axes = dataset_and_axis.split(",")
    base.arguments(dataset, published.DATASETS)
    for axis in axes:
        base.arguments(axis, AXES)
    runs: dict[str, ml_collections.ConfigDict] = {}
    for axis, recipes in _recipes(dataset).items():
        for name, recipe in recipes.items() if axis in (axes or AXES) else ():
            claimed = name in ("mlp", "mlp_apart")
            ends = [(size, seed) for size in (2, 10) for seed in FURTHER] if claimed else []
            for size, seed in (*itertools.product(_sizes(axis, name), SEEDS), *ends):
                run = runs[f"{axis}/{name}_k{size}_s{seed}"] = copy.deepcopy(recipe)
                run.seed, run.ensemble.num_students = seed, size
    return ml_collections.ConfigDict({"runs": runs})


def _sizes(axis: str, name: str) -> tuple[int, ...]:
    """The Ks of a recipe: one student has no peers and no mean, and its kernels to itself."""
    if name in ("latest", "mixture"):
        return (3, 6, 9)
    if axis == "members":
        return (2, 4, 6, 10, 32)
    return SIZES if axis in ("base", "average") or name == "mlp_apart" else SIZES[1:]


def _recipes(dataset: str) -> dict[str, dict[str, ml_collections.ConfigDict]]:
    qnn, qnn_run = published.settings("qnn", dataset, alone=False)
    origin = base.on_dataset(dataset, qnn_run)
    origin.ensemble.students = {"qnn": qnn}
    origin.embedding.sharing = "own"

    def changed(config: ml_collections.ConfigDict, **values: object) -> ml_collections.ConfigDict:
        made = copy.deepcopy(config)
        made.update_from_flattened_dict(values)
        return made

    apart = {"transfer.ektf.kd": False, "transfer.ektf.dml": False}
    own = {"embedding.sharing": "own"}
    mlp, latest = ektf_mlp.get_config(dataset), ektf_latest.get_config(dataset)
    mixture = copy.deepcopy(origin)
    for model in ("fcn", "final2b"):
        mixture.ensemble.students[model] = published.settings(model, dataset, alone=False)[0]
    return {
        "base": {"qnn": origin},
        "loss": {
            "fused": changed(origin, **{"transfer.name": "none"}),
            "apart": changed(origin, **apart),
            "dml": changed(origin, **{"transfer.name": "dml", "transfer.dml.reduction": "mean"}),
            "noself": changed(origin, **{"transfer.self": 1}),
        },
        "sharing": {
            "shared": changed(origin, **{"embedding.sharing": "shared"}),
            "half": changed(origin, **{"embedding.sharing": 0.5}),
        },
        "members": {"adapters": changed(origin, **apart, **{"ensemble.members": "adapters"})},
        "students": {
            "mlp": changed(mlp, **own),
            "mlp_apart": changed(mlp, **own, **apart),
            "latest": changed(latest, **own),
            "mixture": mixture,
        },
        "average": {"ema": changed(origin, **{"train.ema": 0.999})},
    }
