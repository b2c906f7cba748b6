"""The authors' homogeneous ML-1M run: EKTF over K MLPs (Table 2, EKTF_MLP; Fig. 8).

    python -m experiments.prepare --dataset=ml1m --raw=DIR --out=data/ml1m
    python -m experiments.train --config=configs/ml1m_ektf_mlp.py --workdir=runs/ml1m_ektf_mlp

K by --config.ensemble.num_students, the plain ensemble by --config.transfer.name=none.
"""

import ml_collections

from configs import ektf_mlp


def get_config() -> ml_collections.ConfigDict:
    return ektf_mlp.get_config("ml1m")
