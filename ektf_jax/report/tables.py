"""Tables as data, and two that any report has: all runs, and their cost."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ektf_jax.report import names
from ektf_jax.report.results import Outcome
from ektf_jax.report.seeds import Group, deviation, groups, mean

_SHOWN = 60  # characters of a setting
MISSING = "—"
SUMMARY = "All runs"
STAR = "★"  # after a number: better, significantly


@dataclass(frozen=True)
class Bar:
    """A length, and a mark to compare it with; both from 0 to 1."""

    length: float
    mark: float


@dataclass(frozen=True)
class Cell:
    """Text, 1 or 2 where it is the best or second best of its column, and in HTML a bar beside it."""

    text: str
    rank: int = 0
    bar: Bar | None = None


@dataclass(frozen=True)
class Table:
    """A header, rows of as many cells, and notes below them."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()


def summary(runs: Sequence[Outcome]) -> Table:
    """A row per model and K, whatever was run, the best two by validation marked.

    Best and worst student, chosen by validation, and the lead over the best are per run, then averaged.
    """
    rows = []
    valid = [mean(group.over(lambda run: run.valid.auc)) for group in groups(runs)]
    ranks = ranked([round(auc, 4) for auc in valid], highest=True)
    more = list(dict.fromkeys(name for run in runs for name in run.more))
    for group, rank in zip(groups(runs), ranks, strict=True):
        auc = group.over(lambda run: run.ensemble.auc)
        logloss = group.over(lambda run: run.ensemble.logloss)
        students = ("-", "-", "-")
        if all(run.students for run in group.runs):
            best = mean(group.over(lambda run: run.best_student.auc))
            worst = mean(group.over(lambda run: run.worst_student.auc))
            students = (f"{best:.4f}", f"{worst:.4f}", f"{mean(auc) - best:+.4f}")
        validation = Cell(spread(group.over(lambda run: run.valid.auc), 4), rank)
        rows.append(
            (
                *row(group.label, str(group.num_students), str(len(group.runs))),
                *row(f"{group.runs[0].parameters:,}"),
                validation,
                *row(
                    spread(auc, 4),
                    f"{mean(logloss):.{digits_of([mean(logloss)])}f}",
                    *(spread([run.more[name] for run in group.runs if name in run.more], 4) for name in more),
                    *students,
                ),
            )
        )
    header = (
        *("model", "K", "seeds", "parameters", "validation AUC", "ensemble AUC", "logloss"),
        *(name.replace("_", " ") for name in more),
        *("best student", "worst student", "lead"),
    )
    return Table(SUMMARY, header, tuple(rows))


def cost(runs: Sequence[Outcome]) -> Table:
    """A row per model and K: parameters, and time and epochs averaged over its runs."""

    def cells(group: Group) -> tuple[Cell, ...]:
        minutes = mean(group.over(lambda run: run.wall_seconds / 60))
        return row(
            group.label,
            str(group.num_students),
            str(len(group.runs)),
            f"{group.runs[0].parameters:,}",
            f"{mean(group.over(lambda run: run.samples_per_second)):,.0f}",
            MISSING if math.isnan(minutes) else f"{minutes:.1f}",
            f"{mean(group.over(lambda run: run.epochs)):.3g}",
            f"{mean(group.over(lambda run: run.best_epoch)):.3g}",
        )

    header = "model,K,runs,parameters,training samples/s,wall time (min),epochs,best epoch"
    devices = ", ".join(sorted({names.literal(run.device) for run in runs}))
    notes = (
        f"Measured as these runs were trained, on: {devices}. Other work on the machine is in their times.",
    )
    return Table("Cost", tuple(header.split(",")), tuple(map(cells, groups(runs))), notes)


def ranked(values: Sequence[float], *, highest: bool) -> list[int]:
    """1 for the best, 2 for the second best, 0 for the rest; equal values share. All 0 for one value."""
    order = sorted({value for value in values if not math.isnan(value)}, reverse=highest)
    if len(order) < 2:
        return [0] * len(values)
    return [order.index(value) + 1 if value in order[:2] else 0 for value in values]


def digits_of(values: Sequence[float]) -> int:
    """Four, or six where all are as small as iPinYou's logloss."""
    return 6 if values and max(values) < 0.05 else 4


def spread(values: Sequence[float], digits: int) -> str:
    """Their mean, and ± their deviation where there are two or more."""
    if not values or any(map(math.isnan, values)):
        return MISSING
    apart = deviation(values)
    return f"{mean(values):.{digits}f}" + ("" if math.isnan(apart) else f" ± {apart:.{digits}f}")


def signed(value: float, digits: int) -> str:
    """With its sign, but for what rounds to zero."""
    if math.isnan(value):
        return MISSING
    rounded = round(value, digits)
    return f"{rounded:+.{digits}f}" if rounded else f"{0:.{digits}f}"


def probability(p: float) -> str:
    return MISSING if math.isnan(p) else f"{p:.1e}" if p < 1e-3 else f"{p:.3f}"


def shown(value: Any) -> str:
    """A setting in few characters."""
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return names.one_line(text, _SHOWN)


def row(*texts: str) -> tuple[Cell, ...]:
    return tuple(map(Cell, texts))
