"""What figures and findings are made of: metrics of K equal MLPs over K."""

from collections.abc import Sequence
from dataclasses import dataclass

from ektf_jax.report.paper import published, select
from ektf_jax.report.results import Outcome
from ektf_jax.report.seeds import deviation, mean


@dataclass(frozen=True)
class Point:
    """Test metrics at one K, averaged over runs; `best` and `worst` are its students', nan without them.

    `deviation` is that of the ensemble's AUC over seeds, nan for one run.
    """

    auc: float
    logloss: float
    best: float
    worst: float
    best_logloss: float
    deviation: float

    @property
    def gap(self) -> float:
        """AUC of the ensemble over its best student."""
        return self.auc - self.best

    @property
    def spread(self) -> float:
        """AUC of the best student over the worst."""
        return self.best - self.worst


Series = dict[int, Point]


def of_mlps(runs: Sequence[Outcome], is_it: select.Is) -> Series:
    """Ensembles of MLPs by K, and at K = 1 the MLP alone, whose method makes no difference.

    The MLP alone is there only if no setting of it and the embedding is another than the students': on some
    datasets the paper's baseline is another network.
    """
    ensembles = [run for run in runs if select.of_mlps(run) and is_it(run)]
    students = [_student(run) for run in ensembles]
    alone = [
        run
        for run in runs
        if select.alone("mlp")(run) and any(_agree(_student(run), student) for student in students)
    ]
    return _by_size([*alone, *ensembles])


def logged(dataset: str, family: str) -> Series:
    """The authors' published runs of a family, by K."""
    return _by_size(published.logged_runs(dataset, family))


def _student(run: Outcome) -> dict[str, object]:
    """The settings of a run of equal students that are its students'."""
    return {
        key.split(".")[-1]: value
        for key, value in run.settings.items()
        if key.startswith("ensemble.students.") or key.startswith("embedding.")
    }


def _agree(one: dict[str, object], other: dict[str, object]) -> bool:
    return all(one[key] == other[key] for key in one.keys() & other.keys())


def _by_size(runs: Sequence[Outcome | published.LoggedRun]) -> Series:
    return {
        size: _point([run for run in runs if run.num_students == size])
        for size in sorted({run.num_students for run in runs})
    }


def _point(runs: Sequence[Outcome | published.LoggedRun]) -> Point:
    aucs = [run.ensemble.auc for run in runs]
    with_students = [run for run in runs if run.students]
    return Point(
        auc=mean(aucs),
        logloss=mean([run.ensemble.logloss for run in runs]),
        best=mean([run.best_student.auc for run in with_students]),
        worst=mean([run.worst_student.auc for run in with_students]),
        best_logloss=mean([run.best_student.logloss for run in with_students]),
        deviation=deviation(aucs),
    )
