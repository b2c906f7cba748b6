"""The paper's figures from runs.

Each takes the runs of one dataset without variants (`seeds.main_runs`) and is None where too few are there.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ektf_jax.report import figures
from ektf_jax.report.figures import ACCENT, Style
from ektf_jax.report.paper import published, select, series
from ektf_jax.report.paper.series import Point, Series
from ektf_jax.report.results import Outcome

_METHODS = {
    "EKTF": select.ektf(),
    "KD": select.method("kd"),
    "DML": select.method("dml"),
    "plain mean": select.method("none"),
    "plain sum": select.method("none", "sum"),
    "plain concat": select.method("none", "concat"),
}

# A method looks the same in every figure.
_STYLES = {
    "EKTF": Style(ACCENT, "o", "-"),
    "KD": Style("0.15", "s", "--"),
    "DML": Style("0.5", "^", "-."),
    "plain mean": Style("0.55", "D", "-"),
    "plain sum": Style("0.2", "v", "--"),
    "plain concat": Style("0.4", "P", ":"),
}
_AUTHORS = Style("0.55", "v", "-")

Curves = Mapping[str, tuple[Series, Style]]


def figure_2(runs: Sequence[Outcome]) -> Figure | None:
    """Plain ensembles of MLPs by mean, sum and concat: ensemble, best and worst student, and their gap."""
    return _three_panels(_methods(runs, "plain mean", "plain sum", "plain concat"))


def figure_3(runs: Sequence[Outcome]) -> Figure | None:
    """KD (Eq. 2) beside the plain mean ensemble."""
    methods = _methods(runs, "KD", "plain mean")
    return _three_panels(methods) if "KD" in methods else None


def figure_5(runs: Sequence[Outcome]) -> Figure | None:
    """DML (Eq. 3) beside the plain mean ensemble."""
    methods = _methods(runs, "DML", "plain mean")
    return _three_panels(methods) if "DML" in methods else None


def figure_4(runs: Sequence[Outcome]) -> Figure | None:
    """What the ensemble is above its best student: KD and DML, each beside the plain mean ensemble."""
    methods = _methods(runs, "plain mean", "KD", "DML")
    if not methods.keys() & {"KD", "DML"}:
        return None
    sizes = _sizes(points for points, _ in methods.values())
    with matplotlib.rc_context(figures.RC):
        figure = Figure(figsize=(6.8, 3.3), layout="constrained")
        both = figure.subplots(1, 2, sharey=True)
        for letter, axes, name in zip("ab", both, ("KD", "DML"), strict=True):
            shown = {key: drawn for key, drawn in methods.items() if key in (name, "plain mean")}
            _draw(axes, shown, sizes, _gap)
            _zero(axes)
            _panel(axes, f"({letter}) {name}: ensemble minus best student", sizes)
        both[0].set_ylabel("difference in test AUC")
        figures.legend(figure, both)
    return figure


def figure_7(runs: Sequence[Outcome]) -> Figure | None:
    """EKTF, KD and DML: ensemble, best and worst student, and their gap. None without two of them."""
    methods = _methods(runs, "EKTF", "KD", "DML")
    return _three_panels(methods) if len(methods) > 1 else None


def figure_8(runs: Sequence[Outcome], dataset: str) -> Figure | None:
    """EKTF over K: ensemble and best student, ours, the authors' published runs and their code here."""
    ours = series.of_mlps(runs, select.ektf())
    theirs = series.logged(dataset, "EKTF")
    if len(ours.keys() - {1}) < 2:
        return None
    planned = sorted({1} & ours.keys() | {run.num_students for run in runs if select.of_mlps(run)} - {1})
    logged, ticks = sorted(theirs), sorted({*planned, *theirs})
    our_style = _STYLES["EKTF"]
    panels: dict[str, tuple[Callable[[Point], float], Callable[[Point], float]]] = {
        "AUC": (_auc, _best),
        "logloss": (lambda point: point.logloss, lambda point: point.best_logloss),
    }
    with matplotlib.rc_context(figures.RC):
        figure = Figure(figsize=(7.6, 3.6), layout="constrained")
        both = figure.subplots(1, 2)
        for letter, axes, (name, (ensemble, best)) in zip("ab", both, panels.items(), strict=True):
            for whose, points, sizes, style in (
                ("the authors'", theirs, logged, _AUTHORS),
                ("our", ours, planned, our_style),
            ):
                at = [ticks.index(size) for size in sizes]
                errors = whose == "our" and name == "AUC"
                lighter = replace(style, line=":")
                _draw(axes, {f"{whose} ensemble": (points, style)}, sizes, ensemble, at=at, errors=errors)
                _draw(axes, {f"{whose} best student": (points, lighter)}, sizes, best, at=at, hollow=True)
            again = [
                (ticks.index(size), getattr(found, name.lower()))
                for size in ticks
                for found in published.reruns(dataset, "EKTF", size)
            ]
            label = "the authors' code, this split: ensemble"
            if again:
                axes.plot(*zip(*again, strict=True), "x", color="0.1", ms=5, label=label)
            _panel(axes, f"({letter}) test {name}", ticks)
        figures.legend(figure, both, columns=2)
    return figure


def curves(runs: Sequence[Outcome]) -> Figure | None:
    """Validation AUC of the ensemble over epochs: a single MLP, MLPs by each method at one K, EKTF_Latest.

    K is the largest of those with most of these methods; the first seed of each. A circle marks the epoch
    that is kept. The second panel is the top of the first.
    """
    chosen = _chosen_for_curves([run for run in runs if run.curve])
    if not chosen:
        return None
    with matplotlib.rc_context(figures.RC):
        figure = Figure(figsize=(9.0, 3.9), layout="constrained")
        both = figure.subplots(1, 2)
        for axes in both:
            for name, (run, style) in chosen.items():
                epochs = range(1, len(run.curve) + 1)
                axes.plot(epochs, run.curve, color=style.color, linestyle=style.line, lw=1.5, label=name)
                if run.best_epoch <= len(run.curve):
                    kept = run.curve[run.best_epoch - 1]
                    axes.plot(run.best_epoch, kept, "o", color=style.color, ms=5, mfc="white")
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            figures.frame(axes)
        values = [auc for run, _ in chosen.values() for auc in run.curve]
        top, height = max(values), max(values) - min(values)
        if height:
            both[1].set_ylim(top - 0.2 * height, top + 0.01 * height)
        both[0].set_ylabel("validation AUC of the ensemble")
        both[0].set_title("(a) all of it", loc="left")
        both[1].set_title("(b) the top fifth", loc="left")
        figures.legend(figure, [both[0]], columns=3)
    return figure


def _chosen_for_curves(runs: Sequence[Outcome]) -> dict[str, tuple[Outcome, Style]]:
    """By name, what the training curves show of these runs."""
    first: dict[str, dict[int, Outcome]] = {
        name: {run.num_students: run for run in reversed(runs) if select.of_mlps(run) and _METHODS[name](run)}
        for name in ("plain mean", "KD", "DML", "EKTF")
    }
    chosen: dict[str, tuple[Outcome, Style]] = {}
    if single := [run for run in runs if select.alone("mlp")(run)]:
        chosen["single MLP"] = (single[0], Style("0.5", "", ":"))
    if sizes := sorted({size for found in first.values() for size in found}):
        size = max(sizes, key=lambda size: (sum(size in found for found in first.values()), size))
        for name, found in first.items():
            if size in found:
                chosen[f"{name} of {size} MLPs"] = (found[size], _STYLES[name])
    latest = select.both(select.ektf(), select.of(*select.LATEST))
    if heterogeneous := [run for run in runs if latest(run)]:
        chosen["EKTF_Latest"] = (heterogeneous[0], Style("0.0", "", (0, (4, 1, 1, 1))))
    return chosen


def _methods(runs: Sequence[Outcome], *wanted: str) -> Curves:
    """Those of the named methods that have ensembles of MLPs at two K or more."""
    found = {name: (series.of_mlps(runs, _METHODS[name]), _STYLES[name]) for name in wanted}
    return {name: drawn for name, drawn in found.items() if len(drawn[0].keys() - {1}) > 1}


def _three_panels(methods: Curves) -> Figure | None:
    """Over K: the ensemble, the range from worst to best student, and the gap of the best to the ensemble."""
    if not methods:
        return None
    sizes = _sizes(points for points, _ in methods.values())
    with matplotlib.rc_context(figures.RC):
        figure = Figure(figsize=(9.6, 3.5), layout="constrained")
        left, middle, right = figure.subplots(1, 3)
        _draw(left, methods, sizes, _auc, errors=True)
        _panel(left, "(a) ensemble", sizes)
        left.set_ylabel("test AUC")
        _draw_ranges(middle, methods, sizes)
        _panel(middle, "(b) best and worst student", sizes)
        _draw(right, methods, sizes, _gap)
        _zero(right)
        _panel(right, "(c) ensemble minus best student", sizes)
        figures.legend(figure, [left], columns=4)
    return figure


def _draw(
    axes: Axes,
    curves_: Curves,
    sizes: Sequence[int],
    value: Callable[[Point], float],
    *,
    at: Sequence[int] | None = None,
    errors: bool = False,
    hollow: bool = False,
) -> None:
    """A line over K per series; one of `sizes` that it lacks is a gap. Bars: deviation over seeds.

    `at` are the places of the sizes on the axis, by default 0, 1, 2, ...
    """
    for name, (points, style) in curves_.items():
        heights = [value(points[size]) if size in points else math.nan for size in sizes]
        if all(math.isnan(height) for size, height in zip(sizes, heights, strict=True) if size > 1):
            continue  # concat has students at K = 1 only
        deviations = [points[size].deviation if errors and size in points else math.nan for size in sizes]
        places = at or range(len(sizes))
        axes.plot(
            places,
            heights,
            color=style.color,
            marker=style.marker,
            linestyle=style.line,
            markersize=5,
            linewidth=1.4,
            markerfacecolor="white" if hollow else style.color,
            label=name,
        )
        if not all(map(math.isnan, deviations)):
            axes.errorbar(
                places, heights, deviations, fmt="none", ecolor=style.color, elinewidth=1, capsize=2.5
            )


def _draw_ranges(axes: Axes, methods: Curves, sizes: Sequence[int]) -> None:
    """A bar per K and series from its worst student to its best, the worst hollow."""
    with_students = {
        name: drawn
        for name, drawn in methods.items()
        if not all(math.isnan(point.best) for size, point in drawn[0].items() if size > 1)
    }
    offsets = figures.spaced(len(with_students), 0.22 * (len(with_students) - 1))
    for offset, (points, style) in zip(offsets, with_students.values(), strict=True):
        for x, size in enumerate(sizes):
            if size not in points or math.isnan(points[size].best):
                continue
            at, best, worst = x + offset, points[size].best, points[size].worst
            axes.plot([at, at], [worst, best], color=style.color, linestyle="-", linewidth=1.2)
            axes.plot(at, worst, style.marker, color=style.color, markersize=4.5, markerfacecolor="white")
            axes.plot(at, best, style.marker, color=style.color, markersize=4.5)


def _panel(axes: Axes, title: str, sizes: Sequence[int]) -> None:
    axes.set_title(title, loc="left")
    axes.set_xticks(range(len(sizes)), [str(size) for size in sizes])
    axes.set_xlim(-0.45, len(sizes) - 0.55)
    axes.set_xlabel("K students")
    figures.frame(axes)


def _zero(axes: Axes) -> None:
    axes.axhline(0, color="0.4", linewidth=0.8)


def _sizes(all_points: Iterable[Series]) -> list[int]:
    return sorted({size for points in all_points for size in points})


def _auc(point: Point) -> float:
    return point.auc


def _best(point: Point) -> float:
    return point.best


def _gap(point: Point) -> float:
    return point.gap
