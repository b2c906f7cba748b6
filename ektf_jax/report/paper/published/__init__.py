"""Published numbers, as data.

tables.csv: Logloss and AUC of Tables 2 and 4, transcribed from the text of the paper (Li et al., "Ensemble
Learning via Knowledge Transfer for CTR Prediction"). Tables 3 and 5 are images in it and are not here.

runs.csv: test metrics of the 47 runs whose logs the authors published with their code
(github.com/salmon1802/EKTF), of every student and the ensemble. Families: EKTF (K MLPs), EKTF_L (PNN,
FINAL(1B), ECN), and plain ensembles of K MLPs by mean, sum and concat. Students of a concat ensemble are
left out: it does not train their predictions.

reruns.csv: test metrics of the ensemble when the authors' model classes were run for this project, with
FuxiCTR 2.0.4 and torch 2.13 on a CPU, on MovieLens-1M split by the rule of `experiments.prepare`, which since
moves one row. Settings and families are those of the authors' runs. The classes are written for FuxiCTR 2.0.0
to 2.0.2, so that small mends were needed, among them of NumPy's removed aliases, of scikit-learn's removed
`eps` of the logloss, and of the argument by which embeddings are asked for flat. Release had ten values, the
decade of any year; the authors' data, like `experiments.prepare`, have eight. In FuxiCTR 2.0.4 the gates of
FINAL start at 1 (`gate_init="ones"`).

others.csv: test metrics that the paper has not. Of FCN and QNN-alpha the run of best AUC whose log their
authors published (github.com/salmon1802/FCN, where FCN is called DCNv3, and github.com/salmon1802/QNN,
QNN_T26 there); on Frappe_x1 BARS's leaderboard (github.com/reczoo/BARS, docs/CTR/leaderboard/frappe_x1.csv),
which has the best of its runs by AUC, and for FINAL(1B) its run. BARS's IPNN, AutoInt+, AFN+ and FinalNet are
PNN, AutoInt*, AFN* and FINAL(2B) here.

Where a log has a number of Table 2, the table cuts it off, it does not round: 0.809999 is 0.8099 there.
"""

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources

from ektf_jax.report.results import Metrics


@dataclass(frozen=True)
class LoggedRun:
    """A run of the authors: test metrics of its ensemble and of its K students, in their order."""

    name: str
    family: str
    num_students: int
    ensemble: Metrics
    students: tuple[Metrics, ...]

    @property
    def best_student(self) -> Metrics:
        return max(self.students, key=lambda student: student.auc)

    @property
    def worst_student(self) -> Metrics:
        return min(self.students, key=lambda student: student.auc)

    def cut(self) -> Metrics:
        """Metrics of the ensemble as the paper prints them: cut off, not rounded, after four decimals.

        A logloss below 0.01, iPinYou's, has six.
        """
        logloss, auc = (round(value * 1e6) for value in self.ensemble)  # logs have six decimals
        return Metrics(logloss / 1e6 if logloss < 1e4 else logloss // 100 / 1e4, auc // 100 / 1e4)


def metrics(table: int, dataset: str) -> dict[str, Metrics]:
    """Published metrics of Table 2 or 4 by model, in the paper's order; {} where it has no such dataset."""
    return {
        row["model"]: _metrics(row)
        for row in _rows("tables.csv")
        if (row["table"], row["dataset"]) == (str(table), dataset)
    }


def others(dataset: str) -> dict[str, tuple[Metrics, str]]:
    """Metrics that the paper has not, by model, and whose they are: "BARS", "the model's authors".

    {} where there are none. Frappe's training negatives were not redrawn; validation and test rows are ours.
    """
    wanted = dataset.removesuffix("_redrawn")
    return {
        row["model"]: (_metrics(row), row["source"])
        for row in _rows("others.csv")
        if row["dataset"] == wanted
    }


def logged_runs(dataset: str, family: str) -> list[LoggedRun]:
    """The authors' runs of a family on a dataset, by K."""
    by_run: dict[str, list[dict[str, str]]] = {}
    for row in _rows("runs.csv"):
        if (row["dataset"], row["family"]) == (dataset, family):
            by_run.setdefault(row["run"], []).append(row)
    runs = [
        LoggedRun(
            name=name,
            family=family,
            num_students=int(rows[0]["num_students"]),
            ensemble=next(_metrics(row) for row in rows if row["predictor"] == "ensemble"),
            students=tuple(_metrics(row) for row in rows if row["predictor"] != "ensemble"),
        )
        for name, rows in by_run.items()
    ]
    return sorted(runs, key=lambda run: (run.num_students, run.name))


def reruns(dataset: str, family: str, num_students: int) -> tuple[Metrics, ...]:
    """What the authors' code reaches on the split made here, one per seed; () where it was not run."""
    wanted = (dataset, family, str(num_students))
    return tuple(
        _metrics(row)
        for row in _rows("reruns.csv")
        if (row["dataset"], row["family"], row["num_students"]) == wanted
    )


def _metrics(row: dict[str, str]) -> Metrics:
    return Metrics(float(row["logloss"]), float(row["auc"]))


@cache
def _rows(name: str) -> tuple[dict[str, str], ...]:
    text = resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
    return tuple(csv.DictReader(text.splitlines()))
