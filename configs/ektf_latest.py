"""EKTF_Latest of Tables 2 and 4: EKTF over PNN, FINAL(1B) and ECN, on one dataset.

    python -m experiments.train --config=configs/ektf_latest.py:criteo --workdir=runs/criteo_ektf_latest

Its students are Table 4's EKTF_PNN, EKTF_FINAL(1B) and EKTF_ECN.
"""

import ml_collections

from configs import base, published


def get_config(dataset: str = "ml1m") -> ml_collections.ConfigDict:
    (dataset,) = base.arguments(dataset, published.DATASETS)
    latest = published.LATEST[dataset]
    config = base.on_dataset(dataset, {key: latest[key] for key in ("batch_size", "l2") if key in latest})
    hidden_units = published.DATASETS[dataset]["hidden_units"]
    pnn, final, ecn = latest["dropout"]
    config.ensemble.num_students = 3
    config.ensemble.students = {
        "pnn": {"name": "pnn", "hidden_units": hidden_units, "dropout": pnn, "batch_norm": True},
        "final": {
            "name": "final",
            "gate_init": "xavier",
            "hidden_units": hidden_units,
            "dropout": final,
            "batch_norm": True,
        },
        "ecn": {"name": "ecn", "num_cross_layers": latest["ecn_layers"], "dropout": ecn, "batch_norm": True},
    }
    return config
