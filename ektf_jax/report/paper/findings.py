"""Findings 1 to 6 of the paper's Section 3: whether they are seen in these runs, by stated rules.

A difference counts from 0.001 AUC on, which the paper calls significant in CTR prediction. All is about
ensembles of K equal MLPs, K of 2 or more.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ektf_jax.report.paper import select, series
from ektf_jax.report.paper.series import Point, Series
from ektf_jax.report.results import Outcome
from ektf_jax.report.seeds import mean

COUNTS = 1e-3
_UNKNOWN, _NOTHING = "no runs", "-"


@dataclass(frozen=True)
class Finding:
    """What the paper found, whether it is seen here ("seen", "seen in part", "not seen", ...), and why."""

    claim: str
    verdict: str
    measured: str


def findings(runs: Sequence[Outcome], variants: Sequence[Outcome] = ()) -> list[Finding]:
    """The six, in order; [] where no two ensembles of MLPs by one method differ in K.

    `runs` are of one dataset, without variants. `variants` are runs of it with other settings: those of DML
    whose L2 is K times that of the run of the same K say what of Finding 5 is the weight of the L2.
    """
    plain = {
        fusion: _ensembles(series.of_mlps(runs, select.method("none", fusion)))
        for fusion in ("mean", "sum", "concat")
    }
    kd = _ensembles(series.of_mlps(runs, select.method("kd")))
    dml = _ensembles(series.of_mlps(runs, select.method("dml")))
    if max(map(len, (*plain.values(), kd, dml))) < 2:
        return []
    return [
        _more_networks_are_worse(plain),
        _students_decline(plain["mean"]),
        _students_are_far_from_their_ensemble(plain["mean"]),
        _kd_helps(kd, plain["mean"]),
        _dml_helps(dml, kd, _with_k_times_the_l2(runs, variants)),
        _tuning_is_impractical(runs),
    ]


def _more_networks_are_worse(plain: dict[str, Series]) -> Finding:
    claim = "1. A plain ensemble gets worse with more networks."
    curves = {fusion: points for fusion, points in plain.items() if len(points) > 1}
    falls = {fusion: _change(points, "auc") for fusion, points in curves.items()}
    measured = "; ".join(f"{fusion}: AUC {_ends(points, 'auc')}" for fusion, points in curves.items())
    return Finding(claim, _verdict([fall <= -COUNTS for fall in falls.values()]), measured or _NOTHING)


def _students_decline(mean_: Series) -> Finding:
    claim = "2. Its students decline more than it does, and differ widely among themselves."
    if len(mean_) < 2:
        return Finding(claim, _UNKNOWN, _NOTHING)
    declines = _change(mean_, "best") <= min(_change(mean_, "auc"), 0.0) - COUNTS
    largest = mean_[max(mean_)]
    measured = (
        f"mean: best student {_ends(mean_, 'best')}, ensemble {_ends(mean_, 'auc')};"
        f" best over worst student {largest.spread:.4f} at K = {max(mean_)}"
    )
    return Finding(claim, _verdict([declines, largest.spread >= COUNTS]), measured)


def _students_are_far_from_their_ensemble(mean_: Series) -> Finding:
    claim = "3. Its best student is far below it, farther with more networks."
    if len(mean_) < 2:
        return Finding(claim, _UNKNOWN, _NOTHING)
    far = min(point.gap for point in mean_.values()) >= COUNTS
    grows = _change(mean_, "gap") >= COUNTS
    return Finding(claim, _verdict([far, grows]), f"mean: ensemble over best student {_ends(mean_, 'gap')}")


def _kd_helps(kd: Series, mean_: Series) -> Finding:
    claim = "4. With KD the ensemble does not get worse with K, and students decline less than without."
    shared = sorted(kd.keys() & mean_.keys())
    if len(shared) < 2:
        return Finding(claim, _UNKNOWN, _NOTHING)
    holds = _change(kd, "auc") > -COUNTS
    small, large = shared[0], shared[-1]
    milder = kd[large].best - kd[small].best > mean_[large].best - mean_[small].best
    measured = (
        f"KD: ensemble {_ends(kd, 'auc')}, best student {_ends(kd, 'best')}; plain mean: best student"
        f" {_ends(mean_, 'best')}"
    )
    return Finding(claim, _verdict([holds, milder]), measured)


def _with_k_times_the_l2(runs: Sequence[Outcome], variants: Sequence[Outcome]) -> Series:
    """DML of MLPs by K, from variants that have K times the L2 of the runs and no other difference."""
    is_dml = select.both(select.method("dml"), select.of_mlps)

    def without_l2(run: Outcome) -> dict[str, object]:
        return {key: value for key, value in run.settings.items() if key != "embedding.l2"}

    def heavier(run: Outcome) -> bool:
        return any(
            math.isclose(
                run.settings.get("embedding.l2", math.nan),
                run.num_students * other.settings.get("embedding.l2", math.nan),
            )
            and without_l2(run) == without_l2(other)
            for other in runs
            if is_dml(other) and other.num_students == run.num_students
        )

    return _ensembles(series.of_mlps([run for run in variants if is_dml(run) and heavier(run)], is_dml))


def _dml_helps(dml: Series, kd: Series, heavier: Series) -> Finding:
    claim = "5. With DML students are better and nearer to their ensemble than with KD, the ensemble worse."
    shared = sorted(dml.keys() & kd.keys())
    if not shared:
        return Finding(claim, _UNKNOWN, _NOTHING)
    pairs = [(dml[size], kd[size]) for size in shared]
    better = all(a.best > b.best for a, b in pairs)
    nearer = all(a.gap < b.gap for a, b in pairs)
    worse = all(a.auc < b.auc for a, b in pairs)

    def average(points: Sequence[Point]) -> str:
        best, gap, auc = (mean([getattr(point, name) for point in points]) for name in ("best", "gap", "auc"))
        return f"best student {best:.4f}, ensemble {auc:.4f}, gap {gap:.4f}"

    sizes = ", ".join(map(str, shared))
    measured = (
        f"mean of K = {sizes}: DML {average([a for a, _ in pairs])}; KD {average([b for _, b in pairs])}"
    )
    measured += (
        ". Eq. 3 sums over the K students, so the L2 of the table is K times weaker beside each student's"
        " loss than with KD"
    )
    again = sorted(heavier.keys() & set(shared))
    if not again:
        measured += "; there is no run of DML with K times the L2"
    for size in again:
        missing, rest = kd[size].auc - dml[size].auc, kd[size].auc - heavier[size].auc
        cause = (
            "the L2 makes the difference" if rest < COUNTS else "the L2 does not make the difference alone"
        )
        measured += (
            f"; with K times the L2, K = {size}: {average([heavier[size]])}, {_below(rest)} KD's ensemble"
            f" where it was {_below(missing)} it" + (f", so {cause}" if missing >= COUNTS else "")
        )
    return Finding(claim, _verdict([better, nearer, worse]), measured)


def _below(difference: float) -> str:
    return f"{abs(difference):.4f} {'under' if difference >= 0 else 'over'}"


def _tuning_is_impractical(runs: Sequence[Outcome]) -> Finding:
    claim = "6. Tuning the weights of KD and DML by hand is impractical."
    largest = max((run.num_students for run in runs if run.num_students > 1), default=2)
    measured = (
        f"an argument, not a measurement: K + K(K - 1) weights, {largest * largest} at K = {largest};"
        " what EKTF's own weights bring is row w/o EM of Table 3"
    )
    return Finding(claim, "not measured", measured)


def _ensembles(points: Series) -> Series:
    return {size: point for size, point in points.items() if size > 1}


def _change(points: Series, name: str) -> float:
    """From the smallest K to the largest."""
    return float(getattr(points[max(points)], name) - getattr(points[min(points)], name))


def _ends(points: Series, name: str) -> str:
    small, large = min(points), max(points)
    first, last = getattr(points[small], name), getattr(points[large], name)
    return f"{first:.4f} (K = {small}) to {last:.4f} (K = {large})"


def _verdict(parts: Sequence[bool]) -> str:
    if not parts:
        return _UNKNOWN
    return "seen" if all(parts) else "seen in part" if any(parts) else "not seen"
