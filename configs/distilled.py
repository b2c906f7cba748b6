"""One student that learns from a finished ensemble: is what many networks know worth more in one?

    python -m experiments.ensemble --workdirs=RUN,RUN,... --out=runs/teachers/ensemble
    python -m experiments.train --config=configs/distilled.py:ml1m,eckd_qnn \
        --workdir=runs/distilled/eckd_qnn --config.transfer.teachers='("../../teachers/ensemble",)'

eckd_mlp, eckd_qnn   one student, labels and the ensemble's soft labels (ECKD)
ektf_mlp, ektf_qnn   EKTF over four students with a table each, the ensemble in the place of their mean
"""

import ml_collections

from configs import base, ektf_mlp, published

RECIPES = ("eckd_mlp", "eckd_qnn", "ektf_mlp", "ektf_qnn")


def get_config(dataset_and_recipe: str = "ml1m,eckd_qnn") -> ml_collections.ConfigDict:
    dataset, recipe = base.arguments(dataset_and_recipe, published.DATASETS, RECIPES)
    method, student = recipe.split("_")
    config = ektf_mlp.get_config(dataset)
    if student == "qnn":
        model, settings = published.settings("qnn", dataset, alone=method == "eckd")
        config = base.on_dataset(dataset, settings)
        config.ensemble.students = {"qnn": model}
        config.train.patience = 5
    config.transfer.name = method
    config.transfer.eckd.hint_weight = 0.0
    config.ensemble.num_students = 1 if method == "eckd" else 4
    config.embedding.sharing = "own"
    return config
