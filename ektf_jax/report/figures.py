"""Figures in general: their style, the overview of all runs, files. Markers, lines and greys, not colour,
tell series apart.
"""

import io
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase
from matplotlib.ticker import MaxNLocator

from ektf_jax.files import write_bytes
from ektf_jax.report import names
from ektf_jax.report.results import Outcome
from ektf_jax.report.seeds import Group, groups

ACCENT = "#0a5ca8"
RC: dict[Any, Any] = {
    "svg.hashsalt": "ektf-jax",  # the same picture is the same file
    "text.parse_math": False,  # names are shown as they are
    "text.usetex": False,
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.edgecolor": "0.4",
    "xtick.color": "0.25",
    "ytick.color": "0.25",
}
_OVERVIEW = 14  # columns that fit in the overview
_TITLE, _TICK = 80, 60  # characters that fit
_NARROW = 3.8  # inches, of a telephone
_LINE = 40  # characters of a title there
_SHORT = 18  # characters of an entry that fits twice beside itself there


@dataclass(frozen=True)
class Style:
    """How a series is drawn: its ensembles and best students filled, its worst students hollow."""

    color: str
    marker: str
    line: str | tuple[int, tuple[int, ...]]


def overview(
    runs: Sequence[Outcome],
    title: str,
    ceiling: float | None = None,
    chosen: Callable[[Outcome], bool] = lambda run: True,
    apart: Callable[[Outcome], bool] = lambda run: False,
) -> Figure:
    """Test AUC of every student and of the ensemble, a column per method and K.

    Of many, only the `chosen`. Those that are `apart` have a panel with a scale of their own. `ceiling` draws
    the best AUC that any model can reach, where the data's truth is known.
    """
    columns = groups(runs)
    if len(columns) > _OVERVIEW:
        columns = [group for group in columns if chosen(group.runs[0])] or columns[:_OVERVIEW]
    parts = [[group for group in columns if apart(group.runs[0]) == which] for which in (False, True)]
    panels = [part for part in parts if part]
    with matplotlib.rc_context(RC):
        width = max(5.0, 1.2 * len(panels) + 0.72 * len(columns))
        figure = Figure(figsize=(width, 4.2), layout="constrained")
        ratios = [1 + len(part) for part in panels]
        for axes, part in zip(
            figure.subplots(1, len(panels), width_ratios=ratios, squeeze=False)[0], panels, strict=True
        ):
            _clouds(axes, part, ceiling)
        first, *others = figure.axes
        for axes in others:
            axes.set_title("on a scale of its own", loc="left")
        first.set_ylabel("test AUC")
        first.set_title(names.one_line(title, _TITLE), loc="left", fontsize=11)
        handles, labels = first.get_legend_handles_labels()
        figure.legend(handles, labels, frameon=False, loc="outside lower center", ncols=3)
    return figure


def per_field(fields: Sequence[str], values: Sequence[Sequence[float]], title: str) -> Figure:
    """Values of each field, a line per field in their order, the mean as a bar."""
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(5.6, 0.9 + 0.26 * len(fields)), layout="constrained")
        axes = figure.subplots()
        axes.barh(range(len(fields)), [sum(row) / len(row) for row in values], height=0.6, color="0.8")
        for y, row in enumerate(values):
            axes.scatter(row, [y] * len(row), s=12, facecolors="none", edgecolors=ACCENT, zorder=3)
        axes.set_yticks(range(len(fields)), [names.one_line(field, _TICK) for field in fields])
        axes.invert_yaxis()
        axes.axvline(0, color="0.4", linewidth=0.8)
        axes.grid(axis="x", color="0.9")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_title(names.one_line(title, _TITLE), loc="left")
    return figure


def _clouds(axes: Axes, columns: Sequence[Group], ceiling: float | None) -> None:
    """The students of each column, and its ensembles as strokes."""
    for x, group in enumerate(columns):
        students = [student.auc for run in group.runs for student in run.students]
        across = spaced(len(students), 0.3)
        axes.scatter(
            [x + offset for offset in across],
            students,
            s=26,
            facecolors="none",
            edgecolors="0.35",
            zorder=2,
            label="student" if x == 0 else None,
        )
        ensembles = [run.ensemble.auc for run in group.runs]
        axes.scatter(
            [x] * len(ensembles),
            ensembles,
            s=320,
            marker="_",
            linewidths=2.0,
            color=ACCENT,
            zorder=1.5,
            label="ensemble" if x == 0 else None,
        )
    if ceiling is not None:
        axes.axhline(ceiling, color="0.55", linestyle=":", label="best possible")
    ticks = [
        "\n".join(names.one_line(line, _TICK) for line in group.label.replace(" of ", "\nof ").split("\n"))
        + f"\nK = {group.num_students}"
        for group in columns
    ]
    axes.set_xticks(range(len(columns)), ticks, fontsize=7.5)
    axes.set_xlim(-0.6, len(columns) - 0.4)
    frame(axes)


def narrow(figure: Figure) -> bytes:
    """The figure for a telephone, as SVG: its panels below each other, text as large as before."""
    with matplotlib.rc_context(RC):
        panels = figure.axes
        grid = figure.add_gridspec(len(panels), 1)
        for row, axes in enumerate(panels):
            axes.set_subplotspec(grid[row, 0])
            title = axes.get_title(loc="left")
            axes.set_title("\n".join(textwrap.wrap(title, _LINE)), loc="left")
            axes.tick_params(labelleft=True)
            ticks = [label.get_text() for label in axes.get_xticklabels()]
            if any("\n" in tick for tick in ticks):
                wrapped = [
                    "\n".join(part for line in tick.split("\n") for part in _wrapped(line)) for tick in ticks
                ]
                axes.set_xticks(axes.get_xticks(), wrapped)
        figure.set_size_inches(_NARROW, 0.6 + 2.6 * len(panels))
        for old in list(figure.legends):
            handles, labels = old.legend_handles, [text.get_text() for text in old.texts]
            columns = 1 if max(map(len, labels), default=0) > _SHORT else 2
            old.remove()
            _legend(figure, handles, labels, columns)
        drawn = io.BytesIO()
        figure.savefig(drawn, format="svg", metadata={"Date": None})
    return drawn.getvalue()


def _wrapped(line: str) -> list[str]:
    """A line of a tick for a narrow column; K = 10 stays whole."""
    return [line] if line.startswith("K =") else textwrap.wrap(line, 8) or [line]


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PATH.png and PATH.svg; the same figure gives the same bytes."""
    formats: dict[str, dict[str, Any]] = {"png": {"dpi": 150}, "svg": {"metadata": {"Date": None}}}
    with matplotlib.rc_context(RC):
        for kind, options in formats.items():
            drawn = io.BytesIO()
            figure.savefig(drawn, format=kind, **options)
            write_bytes(path.with_name(f"{path.name}.{kind}"), drawn.getvalue())


def frame(axes: Axes) -> None:
    axes.grid(axis="y", color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.ticklabel_format(axis="y", style="plain", useOffset=False)


def legend(figure: FigureBase, panels: Iterable[Axes], columns: int = 4) -> None:
    """One legend below all panels."""
    named = {
        label: handle
        for axes in panels
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    _legend(figure, list(named.values()), list(named), columns)


def _legend(figure: FigureBase, handles: Sequence[Any], labels: Sequence[str], columns: int) -> None:
    figure.legend(handles, labels, frameon=False, loc="outside lower center", ncols=columns, handlelength=3.2)


def spaced(count: int, width: float) -> list[float]:
    """Offsets around 0, evenly over a width."""
    return [0.0] if count == 1 else [width * (i / (count - 1) - 0.5) for i in range(count)]
