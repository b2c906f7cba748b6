"""EKTF in two minutes on two cores: small MLPs on embedded synthetic clicks.

    python -m experiments.train --config=configs/quickstart.py --workdir=runs/quickstart_ektf

`make run` trains this, a single MLP and a plain mean ensemble, and compares them (quickstart_sweep.py).
Data and settings were chosen so that two minutes show the effect; seeds were not chosen.
"""

import ml_collections

from configs import base


def get_config() -> ml_collections.ConfigDict:
    config = base.get_config()
    config.data.synthetic = ml_collections.ConfigDict(
        {
            "rows": 200_000,
            # Say user, item, and four short fields; 3,339 features.
            "values": (2000, 1000, 20, 7, 100, 200),
            "first_order": 1.0,
            "second_order": 0.6,
            "high_order": 0.3,
            "hidden_dim": 2,
        }
    )
    config.data.batch_size = 1024
    config.embedding.dim = 8
    config.embedding.l2 = 1e-5
    config.ensemble.num_students = 4
    config.ensemble.students.mlp.hidden_units = (64, 64)
    config.train.max_epochs = 20
    return config
