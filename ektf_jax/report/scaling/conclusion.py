"""What a study over K comes to, in sentences that its runs make."""

from collections.abc import Iterable, Sequence

from ektf_jax.report.scaling import curves
from ektf_jax.report.scaling.curves import Curve
from ektf_jax.report.scaling.tables import ENOUGH, SIGNIFICANT, grows, training_flops
from ektf_jax.report.seeds import Group, mean
from ektf_jax.report.tables import probability, signed


def conclusion(of: Sequence[Curve]) -> list[str]:
    """What grows and what does not, what is best, what diversity does, and what it costs; [] of no recipes.

    Best is by validation, and figures are of the test split.
    """
    if not of:
        return []
    rising = sorted(of, key=lambda curve: -curve.rise(curves.valid_auc)[0])
    tested = [curve for curve in rising if (p := curve.rise(curves.ensemble_auc)[1]) == p]
    said = [
        f"Grow with K, by {ENOUGH} or more (p < {SIGNIFICANT}): {_rises(filter(grows, tested))}.",
        f"Not so much, or not so surely: {_rises(curve for curve in tested if not grows(curve))}.",
    ]
    if untested := [curve.label for curve in rising if curve not in tested]:
        said.append(f"Of one seed at an end, so that nothing is tested: {'; '.join(untested)}.")
    every = [(curve, size, group) for curve in of for size, group in curve.groups.items()]
    points = [point for point in every if len(point[2].runs) > 1] or every  # one seed is no claim
    best = max(points, key=lambda point: mean(point[2].over(curves.valid_auc)))
    chosen = max(points, key=lambda point: mean(point[2].over(lambda run: run.best_on_validation.auc)))
    said.append(
        f"Best on validation data: the ensemble of {_point(best)}, with a test AUC of"
        f" {mean(best[2].over(curves.ensemble_auc)):.4f} and {_cost(best[2])}; the chosen student of"
        f" {_point(chosen)}, with {mean(chosen[2].over(curves.student_auc)):.4f}."
    )
    return said


def _rises(of: Iterable[Curve]) -> str:
    rises = [(curve, *curve.rise(curves.ensemble_auc)) for curve in of]
    return (
        "; ".join(f"{curve.label} ({signed(rise, 4)}, p = {probability(p)})" for curve, rise, p in rises)
        or "none"
    )


def _point(point: tuple[Curve, int, Group]) -> str:
    curve, size, _ = point
    return f"{curve.label}, K = {size}"


def _cost(group: Group) -> str:
    run, training = group.runs[0], mean(group.over(training_flops)) * 1e-15
    trained = "" if training != training else f" and {training:,.2f} PFLOPs of training"
    return f"{run.parameters:,} parameters{trained}"
