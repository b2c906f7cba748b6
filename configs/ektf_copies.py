"""EKTF over K equal copies of any published model, on one dataset.

    python -m experiments.train --config=configs/ektf_copies.py:ml1m,qnn --workdir=runs/ml1m_ektf_qnn_k4 \
        --config.ensemble.num_students=4 --config.embedding.sharing=own

The argument is DATASET,MODEL, keys of configs/published.py. The mean of the students' own losses, without
transfer between them, is --config.transfer.ektf.kd=False --config.transfer.ektf.dml=False.
"""

import ml_collections

from configs import base, published


def get_config(dataset_and_model: str = "ml1m,qnn") -> ml_collections.ConfigDict:
    dataset, model = base.arguments(dataset_and_model, published.DATASETS, published.MODELS)
    student, run = published.settings(model, dataset, alone=False)
    config = base.on_dataset(dataset, run)
    config.ensemble.students = {model: student}
    return config
