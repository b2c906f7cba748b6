"""Figures of a study over K, rows of panels for each kind of students."""

import math
from collections.abc import Iterable, Mapping, Sequence

import matplotlib
import numpy as np
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

_IN_A_ROW = 5  # recipes whose lines can be told apart

Rows = Sequence[Sequence[Curve]]


def rows(of: Sequence[Curve]) -> Rows:
    """Recipes of the same students together, the best on validation data first, some in a row."""
    found: dict[tuple[str, ...], list[Curve]] = {}
    for curve in of:
        found.setdefault(curve.kinds, []).append(curve)
    made: list[list[Curve]] = []
    for kind in found.values():
        kind.sort(key=lambda curve: -curve.best_valid_auc)
        count = math.ceil(len(kind) / _IN_A_ROW)
        made += [kind[len(kind) * i // count : len(kind) * (i + 1) // count] for i in range(count)]
    return made


def over_k(of: Rows) -> Figure | None:
    """Test AUC over K: of the ensemble, and of the student that validation chooses."""
    return _rows(
        of,
        {
            "test AUC of the ensemble": curves.ensemble_auc,
            "test AUC of the chosen student": curves.student_auc,
        },
        sharey=True,
    )


def what_goes_on(of: Rows) -> Figure | None:
    """Diversity and collapse over K."""
    return _rows(
        of,
        {
            "ambiguity": curves.ambiguity,
            "correlation of errors": curves.error_correlation,
            "effective rank of embeddings": lambda run: run.effective_rank,
        },
    )


def over_cost(of: Rows) -> Figure | None:
    """Test AUC of the ensemble over parameters and FLOPs, of a prediction and of the training."""
    costs: dict[str, Value] = {
        "parameters": lambda run: float(run.parameters),
        "FLOPs a row predicted": lambda run: run.flops_per_sample,
        "FLOPs of the training": training_flops,
    }
    drawn = [curve for row in of for curve in row]
    if not drawn:
        return None
    low, high = _fences(drawn, [curves.ensemble_auc])
    with matplotlib.rc_context(figures.RC):
        figure = Figure(figsize=(9.6, 4.2 + 0.2 * (len(drawn) // 2)), layout="constrained")
        panels = figure.subplots(1, len(costs), sharey=True)
        for axes, (title, cost) in zip(panels, costs.items(), strict=True):
            for number, curve in enumerate(drawn):
                style = _STYLES[number % len(_STYLES)]
                x = [mean(values) for values in curve.over(cost).values()]
                y = [mean(values) for values in curve.over(curves.ensemble_auc).values()]
                if any(map(math.isnan, x)):
                    continue
                look = {"color": style.color, "marker": style.marker, "ls": style.line}
                if number >= len(_STYLES):
                    look["mfc"] = "white"
                axes.plot(x, y, lw=1.2, ms=4, label=curve.label, **look)
                if low <= y[-1] <= high:
                    axes.annotate(f" {max(curve.groups)}", (x[-1], y[-1]), fontsize=7.5, color=style.color)
            axes.set_ylim(low, high)
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.set_title(title, loc="left")
            figures.frame(axes)
        panels[0].set_ylabel("test AUC of the ensemble")
        figures.legend(figure, panels, columns=2)
    return figure


def _rows(of: Rows, columns: Mapping[str, Value], *, sharey: bool = False) -> Figure | None:
    """A panel for each row of recipes and value: means over K, a deviation to either side.

    Rows have one scale; with `sharey`, columns too.
    """
    if not of:
        return None
    sizes = sorted({size for row in of for curve in row for size in curve.groups})
    heights = [1.9 + 0.17 * len(row) for row in of]
    everyone = [curve for row in of for curve in row]
    scales = {
        title: _fences(everyone, columns.values() if sharey else [value]) for title, value in columns.items()
    }
    with matplotlib.rc_context(figures.RC):
        figure = Figure(figsize=(3.4 * len(columns), sum(heights)), layout="constrained")
        parts = figure.subfigures(len(of), 1, squeeze=False, height_ratios=heights)[:, 0]
        for part, row in zip(parts, of, strict=True):
            panels = part.subplots(1, len(columns), squeeze=False, sharey=sharey)[0]
            for axes, (title, value) in zip(panels, columns.items(), strict=True):
                axes.set_ylim(scales[title])
                places = figures.spaced(len(row), 0.24)
                for place, curve, style in zip(places, row, _STYLES, strict=False):
                    _draw(axes, curve, value, sizes, style, place)
                axes.set_title(title, loc="left")
                axes.set_xticks(range(len(sizes)), [str(size) for size in sizes])
                axes.set_xlim(-0.4, len(sizes) - 0.6)
                axes.set_xlabel("K")
                figures.frame(axes)
            figures.legend(part, panels, columns=len(columns) - 1)
    return figure


def _fences(of: Sequence[Curve], values: Iterable[Value]) -> tuple[float, float]:
    """The ends of an axis: of all means but those far from their middle half, which take all the room."""
    means = np.asarray([mean(one) for value in values for curve in of for one in curve.over(value).values()])
    means = means[np.isfinite(means)]
    if not len(means):
        return 0.0, 1.0
    first, third = np.quantile(means, [0.25, 0.75])
    far = 2 * (third - first)
    inside = means[(means >= first - far) & (means <= third + far)]
    room = 0.12 * (inside.max() - inside.min()) or 1e-4
    return float(inside.min() - room), float(inside.max() + room)


def _draw(axes: Axes, curve: Curve, value: Value, sizes: Sequence[int], style: Style, place: float) -> None:
    found = {size: values for size, values in curve.over(value).items() if not math.isnan(mean(values))}
    x = [sizes.index(size) + place for size in found]
    y = [mean(values) for values in found.values()]
    spreads = [deviation(values) for values in found.values()]
    axes.errorbar(
        x,
        y,
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
    low, high = axes.get_ylim()
    for there, one in zip(x, y, strict=True):
        if not low <= one <= high:
            text = f"{one:.3f} " + ("\N{DOWNWARDS ARROW}" if one < low else "\N{UPWARDS ARROW}")
            edge, side = (low, "bottom") if one < low else (high, "top")
            axes.annotate(text, (there, edge), ha="center", va=side, fontsize=7.5, color=style.color)
