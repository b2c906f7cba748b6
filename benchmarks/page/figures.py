"""What the page draws."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from benchmarks.page.accuracy import Point
from benchmarks.page.cells import Result


def growth(result: Result) -> Figure:
    """Three panels over K, both axes logarithmic, with what was measured and the straight-line fit."""
    panels = {
        "step_seconds": "seconds per step",
        "compile_seconds": "seconds to compile",
        "peak_mib": "peak memory, MiB",
    }
    figure = Figure(figsize=(8.5, 2.9), layout="constrained")
    students = [case["students"] for case in result["cases"]]
    for axes, (key, label) in zip(figure.subplots(1, 3), panels.items(), strict=True):
        values = [
            case[key]["median"] if isinstance(case[key], dict) else case[key] for case in result["cases"]
        ]
        fit = result["growth"][key]
        line = [fit["constant"] + fit["per_student"] * k for k in students]
        axes.plot(students, line, color="0.6", linestyle="--", label="straight line")
        axes.plot(students, values, color="0.1", marker="o", linestyle="", markersize=4, label="measured")
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_xlabel("K")
        axes.set_title(label, fontsize=9)
        axes.set_xticks(students, [str(k) for k in students])
        axes.minorticks_off()
        axes.grid(color="0.9")
        axes.legend(fontsize=7, frameon=False)
    return figure


def bars(labels: Sequence[str], values: Sequence[float], title: str) -> Figure:
    """Ours as horizontal bars, with the peer's 1 as a line."""
    figure = Figure(figsize=(6.5, 0.8 + 0.35 * len(labels)), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(labels, values, color="0.75", height=0.6)
    axes.bar_label(bars, fmt="%.2f", padding=3, fontsize=8)
    axes.axvline(1, color="0.1", linestyle="--", linewidth=1)
    axes.set_xlim(0, 1.15 * max(*values, 1))
    axes.invert_yaxis()
    axes.set_title(title, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def accuracy(points: Sequence[Point]) -> Figure:
    """AUC over milliseconds, students hollow and ensembles filled."""
    figure = Figure(figsize=(6.5, 3.6), layout="constrained")
    axes = figure.subplots()
    for point in points:
        face = "0.1" if point.ensemble else "white"
        axes.plot(point.milliseconds, point.auc, "o", color="0.1", markerfacecolor=face, markersize=6)
        axes.annotate(
            point.label,
            (point.milliseconds, point.auc),
            xytext=(6, 4) if point.ensemble else (-6, -9),
            ha="left" if point.ensemble else "right",
            textcoords="offset points",
            fontsize=8,
        )
    axes.set_xscale("log")
    axes.margins(x=0.18, y=0.15)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.set_xlabel("milliseconds of one row")
    axes.set_ylabel("test AUC")
    axes.grid(color="0.9")
    axes.spines[["top", "right"]].set_visible(False)
    return figure
