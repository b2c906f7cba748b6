"""EKTF in two minutes on two cores: small MLPs on embedded synthetic clicks.

    python -m experiments.train --config=configs/quickstart.py --workdir=runs/quickstart_ektf

`make run` trains this, a single MLP and a plain mean ensemble, and compares them (experiments/quickstart.py).
"""

import ml_collections

from configs import base


def get_config() -> ml_collections.ConfigDict:
    config = base.get_config()
    config.data.synthetic = ml_collections.ConfigDict(
        {"rows": 250_000, "values": (3000, 1500, 300, 100, 50, 20, 8, 4)}
    )
    config.data.batch_size = 1024
    config.embedding.l2 = 1e-3
    config.ensemble.num_students = 4
    config.ensemble.students.mlp.hidden_units = (64, 64)
    config.train.max_epochs = 12
    return config
