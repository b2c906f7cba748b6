"""A page about a search for settings: the winner, what counted, all trials; as Markdown and one HTML file."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ektf_jax.keys import short
from ektf_jax.report import figures, web
from ektf_jax.report.render import Block, Heading, Picture, Text
from ektf_jax.report.tables import MISSING, Bar, Cell, Table, ranked, shown, spread
from ektf_jax.search import Finalist, SearchResult, Trial


def write(found: SearchResult, test: Mapping[int, Mapping[str, float]], out: Path) -> None:
    """Write report.md and report.html, and the figures history and epochs, to a directory.

    `test` has the winner's metrics on test data by seed.
    """
    trials, finalists = found.trials, found.finalists
    title = f"A search of {len(trials)} trials"
    pictures = [
        Picture(
            "history", history(trials), "The search: AUC on validation data by trial, and the best so far."
        ),
        Picture(
            "epochs",
            epochs(trials, found.winner.number),
            "Every trial: AUC on validation data by epoch.",
        ),
    ]
    blocks: list[Block] = [Heading("The winner"), Text(_about(found)), _winner(found.winner, test)]
    if len(finalists) > 1 or len(found.winner.aucs) > 1:
        blocks += [Heading("Finalists"), _finalists(finalists)]
    if found.importances:
        blocks += [
            Heading("What counted"),
            Text(
                "The share of each key in what tells the best tenth of the complete trials from the others"
                " (PED-ANOVA). Of few trials it says little."
            ),
            _importances(found.importances),
        ]
    blocks += [Heading("History"), *pictures, Heading("Trials"), _trials(trials)]
    web.write(out, "report", title, blocks)


def history(trials: Sequence[Trial]) -> Figure:
    """AUC by trial, complete ones filled and pruned ones hollow, with the best complete one so far."""
    with matplotlib.rc_context(figures.RC):
        figure = Figure(figsize=(7.2, 3.6), layout="constrained")
        axes = figure.subplots()
        for state, face, label in (("complete", figures.ACCENT, "complete"), ("pruned", "none", "pruned")):
            shown = [(trial.number, trial.auc) for trial in trials if trial.state == state]
            if shown:
                numbers, aucs = zip(*shown, strict=True)
                edge = figures.ACCENT if state == "complete" else "0.35"
                axes.scatter(numbers, aucs, s=24, facecolors=face, edgecolors=edge, label=label)
        best: list[tuple[int, float]] = []
        for trial in trials:
            if trial.state == "complete" and trial.auc is not None:
                best.append((trial.number, max(trial.auc, best[-1][1] if best else trial.auc)))
        axes.step(*zip(*best, strict=True), where="post", color="0.35", linewidth=1.0, label="best so far")
        _finish(figure, axes, "trial")
    return figure


def epochs(trials: Sequence[Trial], winner: int) -> Figure:
    """A line per trial over its epochs, the pruned ones dotted, the winner in front."""
    with matplotlib.rc_context(figures.RC):
        figure = Figure(figsize=(7.2, 3.6), layout="constrained")
        axes = figure.subplots()
        labelled: set[str] = set()
        for trial in sorted(trials, key=lambda trial: trial.number == winner):
            if not trial.by_epoch:
                continue
            label = "winner" if trial.number == winner else trial.state
            color, line, width = {
                "winner": (figures.ACCENT, "-", 2.0),
                "pruned": ("0.45", ":", 1.0),
            }.get(label, ("0.6", "-", 0.8))
            axes.plot(
                list(trial.by_epoch),
                list(trial.by_epoch.values()),
                line,
                color=color,
                linewidth=width,
                marker=".",
                label=None if label in labelled else label,
            )
            labelled.add(label)
        _finish(figure, axes, "epoch")
    return figure


def _finish(figure: Figure, axes: Axes, over: str) -> None:
    axes.set_xlabel(over)
    axes.set_ylabel("validation AUC")
    figures.frame(axes)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figures.legend(figure, [axes])


def _about(found: SearchResult) -> str:
    trials = found.trials
    counts = [
        f"{count} {name}"
        for state, name in (
            ("complete", "complete"),
            ("pruned", "pruned"),
            ("fail", "failed"),
            ("running", "running"),
        )
        if (count := sum(trial.state == state for trial in trials))
    ]
    return (
        f"Of {len(trials)} trials, {', '.join(counts)}, trial {found.winner.number} won. Trials and finalists"
        " were chosen by the ensemble's AUC on validation data, which is therefore too high. Of test"
        " data, only the winner's metrics here were looked at. `best.py` is its config."
        + ("" if found.own is None else f" Trial {found.own} has the settings that the search began from.")
    )


def _winner(winner: Finalist, test: Mapping[int, Mapping[str, float]]) -> Table:
    rows = [(Cell(key), Cell(shown(value))) for key, value in winner.settings.items()]
    rows.append((Cell("validation AUC"), Cell(spread(list(winner.aucs.values()), 6))))
    for name in ("auc", "logloss"):
        said = "AUC" if name == "auc" else name
        rows.append((Cell(f"test {said}"), Cell(spread([metrics[name] for metrics in test.values()], 6))))
    note = f"Seeds: {', '.join(map(str, winner.aucs))}; ± is the deviation over them."
    return Table("The winner", ("setting", "value"), tuple(rows), (note,) if len(winner.aucs) > 1 else ())


def _finalists(finalists: Sequence[Finalist]) -> Table:
    seeds = list(finalists[0].aucs)
    ranks = ranked([one.mean for one in finalists], highest=True)
    rows = tuple(
        (
            Cell(str(one.number)),
            Cell(spread(list(one.aucs.values()), 6), rank),
            *(Cell(f"{one.aucs[seed]:.6f}") for seed in seeds),
        )
        for one, rank in zip(finalists, ranks, strict=True)
    )
    note = "The first seed is that of the trials, by which they were chosen."
    return Table("Finalists", ("trial", "mean", *(f"seed {seed}" for seed in seeds)), rows, (note,))


def _importances(importances: Mapping[str, float]) -> Table:
    most = max(importances.values()) or 1.0
    rows = tuple(
        (Cell(name), Cell(f"{share:.3f}", bar=Bar(share / most, 0.0)))
        for name, share in sorted(importances.items(), key=lambda item: (-item[1], item[0]))
    )
    return Table("What counted", ("key", "share"), rows)


def _trials(trials: Sequence[Trial]) -> Table:
    complete = [trial for trial in trials if trial.state == "complete" and trial.auc is not None]
    ranks = dict(
        zip(
            (trial.number for trial in complete),
            ranked([trial.auc or 0.0 for trial in complete], highest=True),
            strict=True,
        )
    )
    keys = list(trials[0].settings)
    titles = map(".".join, short([key.split(".") for key in keys]))
    rows = tuple(
        (
            Cell(str(trial.number)),
            Cell("failed" if trial.state == "fail" else trial.state),
            Cell(MISSING if trial.auc is None else f"{trial.auc:.6f}", ranks.get(trial.number, 0)),
            Cell(str(len(trial.by_epoch))),
            *(Cell(shown(trial.settings[key])) for key in keys),
        )
        for trial in trials
    )
    note = "Of a trial that is not complete, the AUC is its best so far."
    return Table("Trials", ("trial", "state", "validation AUC", "epochs", *titles), rows, (note,))
