"""The authors' heterogeneous ML-1M run: EKTF over PNN, FINAL(1B) and ECN (Table 2, EKTF_Latest).

python -m experiments.train --config=configs/ml1m_ektf_latest.py --workdir=runs/ml1m_ektf_latest
"""

import ml_collections

from configs import ektf_latest


def get_config() -> ml_collections.ConfigDict:
    return ektf_latest.get_config("ml1m")
