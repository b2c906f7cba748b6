"""Figures of a study over K, a row of panels for each kind of students."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from ektf_jax.report import figures
from ektf_jax.report.figures import ACCENT, Style
from ektf_jax.report.scaling import curves
from ektf_jax.report.scaling.curves import Curve, Value
from ektf_jax.report.scaling.tables import training_flops
from ektf_jax.report.seeds import deviation, mean

_STYLES = (
    Style(ACCENT, "o", "-"),
    Style("0.15", "s", "--"),
    Style("0.5", "^", "-."),
    Style("0.3", "D", ":"),
    Style("0.6", "v", "-"),
    Style("0.4", "P", "--"),
    Style("0.2", "X", "-."),
    Style("0.55", "*", ":"),
)

Kinds = Mapping[tuple[str, ...], list[Curve]]


def by_kind(of: Sequence[Curve]) -> Kinds:
    """Recipes of the same students together."""
    found: dict[tuple[str, ...], list[Curve]] = {}
    for curve in of:
        found.setdefault(curve.kinds, []).append(curve)
    return found


def over_k(kinds: Kinds) -> Figure | None:
    """Test AUC over K: of the ensemble, and of the student that validation chooses."""
    return _rows(
        kinds,
        {
            "test AUC of the ensemble": curves.ensemble_auc,
            "test AUC of the chosen student": curves.student_auc,
        },
        same_scale=True,
    )


def what_goes_on(kinds: Kinds) -> Figure | None:
    """Diversity and collapse over K."""
    return _rows(
        kinds,
        {
            "ambiguity": curves.ambiguity,
            "correlation of errors": curves.error_correlation,
            "effective rank of embeddings": lambda run: run.effective_rank,
        },
    )


def over_cost(kinds: Kinds) -> Figure | None:
    """Test AUC of the ensemble over parameters and FLOPs, of a prediction and of the training."""
    costs: dict[str, Value] = {
        "parameters": lambda run: float(run.parameters),
        "FLOPs a row predicted": lambda run: run.flops_per_sample,
        "FLOPs of the training": training_flops,
    }
    drawn = [curve for of in kinds.values() for curve in of]
    if not drawn:
        return None
    with matplotlib.rc_context(figures.RC):
        figure = Figure(figsize=(9.6, 4.2), layout="constrained")
        panels = figure.subplots(1, len(costs), sharey=True)
        for axes, (title, cost) in zip(panels, costs.items(), strict=True):
            for number, curve in enumerate(drawn):
                style = _STYLES[number % len(_STYLES)]
                x = [mean(values) for values in curve.over(cost).values()]
                y = [mean(values) for values in curve.over(curves.ensemble_auc).values()]
                if any(map(math.isnan, x)):
                    continue
                look = {"color": style.color, "marker": style.marker, "ls": style.line}
                axes.plot(x, y, lw=1.2, ms=4, label=curve.label, **look)
                axes.annotate(f" {max(curve.groups)}", (x[-1], y[-1]), fontsize=7.5, color=style.color)
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.set_title(title, loc="left")
            figures.frame(axes)
        panels[0].set_ylabel("test AUC of the ensemble")
        figures.legend(figure, panels, columns=2)
    return figure


def _rows(kinds: Kinds, columns: Mapping[str, Value], *, same_scale: bool = False) -> Figure | None:
    """A panel for each kind of students and value: means over K, a deviation to either side."""
    if not kinds:
        return None
    drawn = [curve for of in kinds.values() for curve in of]
    sizes = sorted({size for curve in drawn for size in curve.groups})
    with matplotlib.rc_context(figures.RC):
        figure = Figure(figsize=(3.4 * len(columns), 1.2 + 2.4 * len(kinds)), layout="constrained")
        shared: Literal["all", "col"] = "all" if same_scale else "col"
        grid = figure.subplots(len(kinds), len(columns), squeeze=False, sharey=shared)
        for panels, of in zip(grid, kinds.values(), strict=True):
            for axes, (title, value) in zip(panels, columns.items(), strict=True):
                for place, curve in zip(figures.spaced(len(of), 0.24), of, strict=True):
                    style = _STYLES[drawn.index(curve) % len(_STYLES)]
                    _draw(axes, curve, value, sizes, style, place)
                axes.set_title(title, loc="left")
                axes.set_xticks(range(len(sizes)), [str(size) for size in sizes])
                axes.set_xlim(-0.4, len(sizes) - 0.6)
                figures.frame(axes)
        for axes in grid[-1]:
            axes.set_xlabel("K")
        figures.legend(figure, grid.flat, columns=len(columns) - 1)
    return figure


def _draw(axes: Axes, curve: Curve, value: Value, sizes: Sequence[int], style: Style, place: float) -> None:
    found = {size: values for size, values in curve.over(value).items() if not math.isnan(mean(values))}
    spreads = [deviation(values) for values in found.values()]
    axes.errorbar(
        [sizes.index(size) + place for size in found],
        [mean(values) for values in found.values()],
        yerr=[0 if math.isnan(one) else one for one in spreads],
        color=style.color,
        marker=style.marker,
        ls=style.line,
        lw=1.3,
        ms=4.5,
        capsize=2,
        elinewidth=0.8,
        label=curve.label,
    )
