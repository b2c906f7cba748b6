"""Numbers of the paper, as data: the Logloss and AUC of Tables 2 and 4.

tables.csv is transcribed from the paper's text (Li et al., "Ensemble Learning via Knowledge Transfer for CTR
Prediction"). Tables 3 and 5 are images in it and are not here.
"""

import csv
from importlib import resources


def metrics(table: int, dataset: str) -> dict[str, tuple[float, float]]:
    """Published (Logloss, AUC) by model, in the paper's order; AUC as a fraction."""
    text = resources.files(__package__).joinpath("tables.csv").read_text()
    return {
        row["model"]: (float(row["logloss"]), float(row["auc"]))
        for row in csv.DictReader(text.splitlines())
        if (row["table"], row["dataset"]) == (str(table), dataset)
    }
