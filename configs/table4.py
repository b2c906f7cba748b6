"""Table 4: a model as a student among the three of EKTF_Latest, on one dataset.

    python -m experiments.train --config=configs/table4.py:ml1m,dcnv2 --workdir=runs/ml1m_ektf_dcnv2

The argument is DATASET,MODEL, as in configs/table2.py. The model reads the shared embeddings, as the
authors' networks do, also where it is an ensemble by itself (DCNv2, xDeepFM, Wide & Deep, ...). The paper
does not say which students stand beside it; EKTF_PNN, EKTF_FINAL(1B) and EKTF_ECN are those of EKTF_Latest,
so the others join these three.
"""

import ml_collections

from configs import base, ektf_latest, published


def get_config(dataset_and_model: str = "ml1m,dcnv2") -> ml_collections.ConfigDict:
    dataset, model = base.arguments(dataset_and_model, published.DATASETS, published.MODELS)
    config = ektf_latest.get_config(dataset)
    label = {"final1b": "final"}.get(model, model)
    if label not in config.ensemble.students:
        student, _ = published.settings(model, dataset, alone=False)
        config.ensemble.students[label] = student
        config.ensemble.num_students = 4
    return config
