"""Tables of growth, of tests, and of each point."""

from collections.abc import Callable, Sequence

from ektf_jax.report.results import Outcome
from ektf_jax.report.scaling import curves
from ektf_jax.report.scaling.curves import Curve
from ektf_jax.report.seeds import Group, mean, p_value
from ektf_jax.report.tables import MISSING, Cell, Table, probability, ranked, row, signed, spread

GROWTH = "What grows with K"
PAIRS = "Recipes that differ in one thing"
POINTS = "Every point"
ENOUGH, SIGNIFICANT = 0.0015, 0.01  # the rise that counts, and the p that it needs


def grows(curve: Curve) -> bool:
    """Whether its ensemble rises enough from end to end, and p says that it does."""
    rise, p = curve.rise(curves.ensemble_auc)
    return rise >= ENOUGH and p < SIGNIFICANT


def growth(of: Sequence[Curve]) -> Table | None:
    """A row per recipe: test AUC at each K, its rise from end to end, and whether that is a rise."""
    if not of:
        return None
    sizes = sorted({size for curve in of for size in curve.groups})
    rows = []
    for curve in sorted(of, key=lambda curve: curve.rise(curves.valid_auc)[0], reverse=True):
        rise, p = curve.rise(curves.ensemble_auc)
        low, high = curve.ends
        counts = " and ".join(str(len(curve.groups[size].runs)) for size in (low, high))
        over = curve.over(curves.ensemble_auc)
        rows.append(
            row(
                curve.label,
                *(spread(over[size], 4) if size in over else MISSING for size in sizes),
                f"{low} to {high}",
                counts,
                signed(curve.rise(curves.valid_auc)[0], 4),
                signed(rise, 4),
                probability(p),
                "yes" if grows(curve) else "no",
            )
        )
    header = (
        "recipe",
        *(f"K = {size}" for size in sizes),
        *("ends", "seeds there", "rise, validation", "rise, test", "p", "grows"),
    )
    return Table(
        GROWTH,
        header,
        tuple(rows),
        (
            "AUC of the ensemble on the test split, mean ± deviation over seeds; the recipe that rises most"
            f" on validation data first. Grows: by {ENOUGH} or more on the test split from the smallest"
            f" ensemble to the largest, with p < {SIGNIFICANT} (Welch's t-test over seeds).",
        ),
    )


def compared(of: Sequence[Curve]) -> Table | None:
    """A row per two recipes that differ in one thing: ensembles and chosen students at the largest K."""
    rows = []
    for thing, one, other in curves.pairs(of):
        size = max(one.groups.keys() & other.groups.keys(), default=1)
        if size == 1:
            continue
        ours, theirs = one.groups[size], other.groups[size]
        tested: list[str] = []
        for value in (curves.ensemble_auc, curves.student_auc):
            mine, its = ours.over(value), theirs.over(value)
            tested += [signed(mean(mine) - mean(its), 4), probability(p_value(mine, its))]
        counts = f"{len(ours.runs)} and {len(theirs.runs)}"
        rows.append(row(thing, one.label, other.label, str(size), counts, *tested))
    if not rows:
        return None
    return Table(
        PAIRS,
        ("differ in", "recipe", "against", "K", "seeds", "ensemble", "p", "chosen student", "p"),
        tuple(rows),
        (
            "Differences in test AUC, the first less the second, at the largest K that both have. The chosen"
            " student of a run has the best validation AUC. p is of Welch's t-test over seeds.",
        ),
    )


def points(of: Sequence[Curve]) -> Table | None:
    """A row per recipe and K: all that the figures show."""
    groups = [(curve, size) for curve in of for size in sorted(curve.groups)]
    if not groups:
        return None
    columns: list[tuple[str, Callable[[Group], str]]] = [
        ("validation AUC", lambda group: spread(group.over(curves.valid_auc), 4)),
        ("test AUC", lambda group: spread(group.over(curves.ensemble_auc), 4)),
        ("logloss", lambda group: spread(group.over(lambda run: run.ensemble.logloss), 4)),
        ("chosen student", lambda group: spread(group.over(curves.student_auc), 4)),
        ("lead", lambda group: signed(mean(group.over(_lead)), 4)),
        ("ambiguity", lambda group: _number(group.over(curves.ambiguity), ".4f")),
        ("error correlation", lambda group: _number(group.over(curves.error_correlation), ".3f")),
        ("effective rank", lambda group: _number(group.over(lambda run: run.effective_rank), ".1f")),
        ("parameters", lambda group: f"{group.runs[0].parameters:,}"),
        ("FLOPs a row", lambda group: _number(group.over(lambda run: run.flops_per_sample), ",.0f")),
        ("training PFLOPs", lambda group: _number(group.over(training_flops), ",.2f", 1e-15)),
        ("epochs", lambda group: _number(group.over(lambda run: run.epochs), ".3g")),
    ]
    best = ranked([mean(curve.groups[size].over(curves.valid_auc)) for curve, size in groups], highest=True)
    rows = []
    for (curve, size), rank in zip(groups, best, strict=True):
        group = curve.groups[size]
        cells = [Cell(make(group), rank if name == "validation AUC" else 0) for name, make in columns]
        rows.append((*row(curve.label, str(size), str(len(group.runs))), *cells))
    return Table(
        POINTS,
        ("recipe", "K", "seeds", *(name for name, _ in columns)),
        tuple(rows),
        (
            "Best and second best are by validation. Lead: of the ensemble over the chosen student, on the"
            " test split. Ambiguity: mean cross-entropy of the students less that of their mean logit."
            " Effective rank: of the fields' embeddings, their mean. FLOPs a row: of a prediction of all"
            " students. Training: three times that, for each pass, over all rows of all epochs.",
        ),
    )


def training_flops(run: Outcome) -> float:
    """FLOPs of a run's training: forward and backward, the latter twice the former; nan if not known."""
    passes = float(run.settings["transfer.self"])
    return 3 * run.flops_per_sample * passes * run.rows.get("train", 0) * run.epochs


def _lead(run: Outcome) -> float:
    return run.ensemble.auc - curves.student_auc(run)


def _number(values: Sequence[float], form: str, times: float = 1) -> str:
    value = mean(values) * times
    return MISSING if value != value else format(value, form)
