"""A figure of predictions beside what happened: ROC curve, reliability diagram, histogram."""

from collections.abc import Mapping

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ektf_jax import metrics
from ektf_jax.report.figures import ACCENT, RC

_POINTS = 512  # of a curve
_BINS = 15  # as metrics.calibration_error has them
_LINES = (("-", ACCENT, "o"), ("--", "0.35", "s"), (":", "0.1", "^"), ("-.", "0.6", "v"))


def figure(labels: NDArray[np.floating], logits: Mapping[str, NDArray[np.floating]]) -> Figure:
    """Three panels for predictors by name, logits [N] each, on labels [N] of both classes."""
    with matplotlib.rc_context(RC):
        drawn = Figure(figsize=(10.2, 3.6), layout="constrained")
        roc, reliability, histogram = drawn.subplots(1, 3)
        for at, (name, values) in enumerate(logits.items()):
            line, color, marker = _LINES[at % len(_LINES)]
            wrong, right = roc_curve(labels, values)
            roc.plot(wrong, right, line, color=color, label=f"{name} {metrics.auc(labels, values):.4f}")
            predicted, clicked = reliability_bins(labels, values)
            reliability.plot(predicted, clicked, line, color=color, marker=marker, markersize=3.5, label=name)
        roc.plot([0, 1], [0, 1], color="0.8", linewidth=0.8)
        end = max(line.get_data()[axis].max() for line in reliability.lines for axis in (0, 1))
        reliability.plot([0, end], [0, end], color="0.8", linewidth=0.8)
        _histogram(histogram, labels, *next(iter(logits.items())))
        titles = ("ROC curve", "Reliability", "Predictions")
        axes_names = (
            ("rate of non-clicks above", "rate of clicks above"),
            (f"mean prediction, {_BINS} bins of equal rows", "click rate"),
            ("predicted probability", "density"),
        )
        for axes, title, (x, y) in zip(drawn.axes, titles, axes_names, strict=True):
            axes.set_title(title, loc="left")
            axes.set_xlabel(x)
            axes.set_ylabel(y)
            axes.legend(frameon=False)
            axes.spines[["top", "right"]].set_visible(False)
    return drawn


def roc_curve(
    labels: NDArray[np.floating], logits: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """False and true positive rates at thresholds from above all rows to below all, ties in one step."""
    order = np.argsort(-logits, kind="stable")
    clicks = np.cumsum(labels[order] == 1)
    last = np.append(np.flatnonzero(np.diff(logits[order])), len(order) - 1)
    if len(last) > _POINTS:
        last = last[np.linspace(0, len(last) - 1, _POINTS).astype(int)]
    right = np.append(0, clicks[last] / clicks[-1])
    wrong = np.append(0, (last + 1 - clicks[last]) / (len(order) - clicks[-1]))
    return wrong, right


def reliability_bins(
    labels: NDArray[np.floating], logits: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean prediction and click rate of bins of equally many rows, by their logits."""
    order = np.argsort(logits, kind="stable")
    probabilities = metrics.probabilities(logits[order])
    bins = min(_BINS, len(order))
    predicted = [part.mean() for part in np.array_split(probabilities, bins)]
    return np.array(predicted), np.array([part.mean() for part in np.array_split(labels[order], bins)])


def _histogram(axes: Axes, labels: NDArray[np.floating], name: str, logits: NDArray[np.floating]) -> None:
    found = metrics.probabilities(logits)
    for which, (color, style) in {1: (ACCENT, "-"), 0: ("0.35", "--")}.items():
        label = f"{name}, {'clicks' if which else 'others'}"
        axes.hist(
            found[labels == which],
            bins=40,
            range=(0, 1),
            density=True,
            histtype="step",
            color=color,
            linestyle=style,
            label=label,
        )
