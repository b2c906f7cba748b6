"""Table 2: one model trained alone, on one dataset.

    python -m experiments.train --config=configs/table2.py:ml1m,deepfm --workdir=runs/ml1m_deepfm

The argument is DATASET,MODEL, keys of configs/published.py, where the settings and their sources are. Rows
EKTF_MLP and EKTF_Latest are configs/ektf_mlp.py and configs/ektf_latest.py.
"""

import ml_collections

from configs import base, published


def get_config(dataset_and_model: str = "ml1m,mlp") -> ml_collections.ConfigDict:
    dataset, model = base.arguments(dataset_and_model, published.DATASETS, published.MODELS)
    student, run = published.settings(model, dataset, alone=True)
    config = base.on_dataset(dataset, run)
    config.ensemble.num_students = 1
    config.ensemble.students = {model: student}
    config.transfer.name = "none"
    return config
