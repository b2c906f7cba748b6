"""The quickstart's three runs: a single MLP, a plain mean ensemble and EKTF. `make run` trains them.

python -m experiments.sweep --config=configs/quickstart_sweep.py --workdir=runs/quickstart
"""

import ml_collections

from configs import quickstart


def get_config() -> dict[str, dict[str, ml_collections.ConfigDict]]:
    single, plain, ektf = (quickstart.get_config() for _ in range(3))
    single.ensemble.num_students = 1
    single.transfer.name = plain.transfer.name = "none"
    return {"runs": {"single": single, "plain": plain, "ektf": ektf}}
