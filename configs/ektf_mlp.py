"""EKTF_MLP of Table 2 and Fig. 8: EKTF over K equal MLPs, on one dataset.

    python -m experiments.train --config=configs/ektf_mlp.py:criteo --workdir=runs/criteo_ektf_mlp

K by --config.ensemble.num_students, the plain ensemble by --config.transfer.name=none.
"""

import ml_collections

from configs import base, published


def get_config(dataset: str = "ml1m") -> ml_collections.ConfigDict:
    (dataset,) = base.arguments(dataset, published.DATASETS)
    config = base.on_dataset(dataset)
    tower = published.DATASETS[dataset]
    config.ensemble.students.mlp.update(hidden_units=tower["hidden_units"], dropout=tower["dropout"])
    return config
