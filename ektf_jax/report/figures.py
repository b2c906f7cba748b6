"""Figures of runs. Distinct shapes and greys, so that they read in black and white too."""

from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from ektf_jax.report.results import Run, groups

matplotlib.rcParams["svg.hashsalt"] = "ektf-jax"  # the same picture is the same file


def students_and_ensemble(runs: list[Run], title: str, ceiling: float | None = None) -> Figure:
    """Test AUC of every student and of the ensemble, a column per method and K (the paper's Fig. 2 and 7).

    `ceiling` draws the best AUC that any model can reach, where the data's truth is known.
    """
    columns = groups(runs)
    figure = Figure(figsize=(max(5.0, 1.5 + 0.95 * len(columns)), 4.4), layout="constrained")
    axes = figure.subplots()
    for x, same in enumerate(columns.values()):
        students = [auc for run in same for auc in run.student_aucs]
        offsets = [0.0] * len(students)
        if len(students) > 1:
            offsets = [0.3 * (i / (len(students) - 1) - 0.5) for i in range(len(students))]
        axes.scatter(
            [x + offset for offset in offsets],
            students,
            s=26,
            facecolors="none",
            edgecolors="0.35",
            label="student" if x == 0 else None,
        )
        ensembles = [run.auc for run in same]
        axes.scatter(
            [x] * len(ensembles),
            ensembles,
            s=320,
            marker="_",
            linewidths=2.5,
            color="tab:blue",
            label="ensemble" if x == 0 else None,
        )
    if ceiling is not None:
        axes.axhline(ceiling, color="0.6", linestyle=":", label="best possible")
    axes.set_xticks(
        range(len(columns)), [f"{label.replace(' of ', chr(10) + 'of ')}\nK = {k}" for label, k in columns]
    )
    axes.tick_params(axis="x", labelsize=8)
    axes.set_xlim(-0.6, len(columns) - 0.4)
    axes.set_ylabel("test AUC")
    axes.set_title(title, loc="left", fontsize=11)
    axes.grid(axis="y", color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, loc="outside lower center", ncols=3)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG and, beside it, as SVG."""
    figure.savefig(path.with_suffix(".png"), dpi=150)
    figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
