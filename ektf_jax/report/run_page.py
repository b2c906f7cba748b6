"""The page of one run: metrics, curves, who teaches whom, predictions, fields, cost, data, config."""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from ektf_jax.config import Config
from ektf_jax.errors import InputError
from ektf_jax.report import figures, judged, names, render, results, web
from ektf_jax.report.render import Block, Heading, Picture, Text
from ektf_jax.report.tables import MISSING, Cell, Table, ranked, row
from ektf_jax.result import Result

_NO_TERMS = ("loss", "gradient_norm")  # numbers of an epoch's training that are not terms of its loss


@dataclass(frozen=True)
class About:
    """What the page is made of.

    `epochs` are the lines of metrics.jsonl. `predictions`: of the test split, labels [N] and logits [N] by
    predictor; None without the dataset. `importance`: by field what its shuffling costs the ensemble in AUC,
    a value per shuffle.
    """

    result: Result
    epochs: Sequence[Mapping[str, Any]]
    predictions: tuple[NDArray[np.floating], Mapping[str, NDArray[np.floating]]] | None = None
    importance: Mapping[str, Sequence[float]] | None = None


def read_epochs(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl, as `results.read_epochs` reads them."""

    def read(epoch: Any, _: int) -> dict[str, Any]:
        float(epoch["valid"]["ensemble"]["auc"]), dict(epoch["train"]), int(epoch["epoch"])
        return dict(epoch)

    return results.read_epochs(path, read)


def write(about: About, out: Path, title: str) -> str:
    """Write run.md, run.html and the figures to `out`; returns the table of metrics as Markdown.

    Raises InputError, and writes nothing, where the run's files have something that they cannot have.
    """
    path = about.result.path
    with _understood(path):
        metrics = _metrics(about.result)
        blocks: list[Block] = [Text(_said(about.result)), Heading(metrics.title), metrics]
        tables = (_embeddings(about.result), _cost(about.result), _data(about.result), _config(about.result))
    with _understood(path.with_name("metrics.jsonl")):
        curves, teaching = _curves(about), _teaching(about)
    pictures = {
        "curves": ("Curves", curves, "Students are grey; the dotted line is the epoch that is kept."),
        "teaching": (
            "Who teaches whom",
            teaching,
            "Scores of Eq. 4 and weights lambda of Eq. 5 over epochs, a line per student, and the weights mu"
            " in the epoch that is kept: how much the student of a row learns from that of a column.",
        ),
        "predictions": (
            "Predictions",
            about.predictions and judged.figure(*about.predictions),
            "Predictions of the test split beside what happened.",
        ),
        "importance": (
            "Which fields matter",
            about.importance and _importance(about.importance),
            "AUC that the ensemble loses on validation data when a field's values are shuffled: the mean as a"
            " bar, each shuffle as a circle.",
        ),
    }
    for name, (heading, figure, caption) in pictures.items():
        if figure:
            blocks += [Heading(heading), Picture(name, figure, caption)]
    for table in tables:
        blocks += [Heading(table.title), table] if table.rows else []
    web.write(out, "run", title, blocks)
    return render.markdown_table(metrics) + "\n"


@contextlib.contextmanager
def _understood(path: Path) -> Iterator[None]:
    """What cannot be shown of a file is an InputError that names it."""
    try:
        yield
    except results.UNREADABLE as error:
        raise InputError(f"{path}: holds what no run writes ({error!r}); remove or repair it") from None


def _said(result: Result) -> str:
    """The run in two sentences."""
    config, document = result.config, result.document
    kinds = ", ".join(names.literal(name) for name in config.ensemble.students)
    diversity = result.test.get("diversity", {})
    differ = (
        f" Their errors correlate with {diversity['error_correlation']:.3f}, and the ensemble gains"
        f" {diversity['ambiguity']:.4f} of cross-entropy over their mean."
        if diversity
        else ""
    )
    return (
        f"K = {config.ensemble.num_students} of {kinds}, method {names.code(config.transfer.name)}, seed"
        f" {config.seed}: {document['params']:,} parameters, best after epoch {result.best_epoch} of"
        f" {document['epochs']}.{differ}"
    )


def _metrics(result: Result) -> Table:
    """A row per predictor, the best student by validation marked."""
    columns = list(result.valid["ensemble"])
    labels = [f"student {k} ({label})" for k, label in enumerate(result.labels)]
    ranks = ranked([one["auc"] for one in result.valid["students"]], highest=True)
    rows = []
    for at, label in enumerate(["ensemble", *labels]):
        cells = [Cell(names.one_line(label))]
        for split in ("valid", "test"):
            of = getattr(result, split)
            found = of["ensemble"] if at == 0 else of["students"][at - 1]
            best = at > 0 and split == "valid" and ranks[at - 1] == 1
            cells += [
                Cell(f"{found[name]:.4f}" if name in found else MISSING, int(best and name == "auc"))
                for name in columns
            ]
        rows.append(tuple(cells))
    header = [f"{split} {name.replace('_', ' ')}" for split in ("validation", "test") for name in columns]
    return Table("Metrics", ("predictor", *header), tuple(rows))


def _curves(about: About) -> Figure | None:
    """Validation AUC and logloss of all predictors, and the terms of the training loss."""
    if not about.epochs:
        return None
    x = [epoch["epoch"] for epoch in about.epochs]
    with matplotlib.rc_context(figures.RC):
        figure = Figure(figsize=(10.2, 3.6), layout="constrained")
        panels = figure.subplots(1, 3)
        for axes, metric in zip(panels, ("auc", "logloss"), strict=False):
            for k in range(len(about.result.valid["students"])):
                values = [epoch["valid"]["students"][k][metric] for epoch in about.epochs]
                axes.plot(x, values, color="0.6", lw=0.8, label="students" if k == 0 else None)
            values = [epoch["valid"]["ensemble"][metric] for epoch in about.epochs]
            axes.plot(x, values, "o-", ms=3, color=figures.ACCENT, label="ensemble")
            _frame(axes, f"validation {'AUC' if metric == 'auc' else metric}", about)
        terms = [name for name, value in about.epochs[0]["train"].items() if isinstance(value, float)]
        for number, term in enumerate(name for name in terms if name not in _NO_TERMS):
            values = [epoch["train"].get(term, 0.0) for epoch in about.epochs]
            if any(values):
                line, color = ("-", "--", "-.", ":")[number % 4], str(0.12 * (number % 6))
                panels[2].plot(x, values, ls=line, color=color, label=term)
        panels[2].set_yscale("log")
        panels[2].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        _frame(panels[2], "terms of the training loss", about, plain=False)
    return figure


def _teaching(about: About) -> Figure | None:
    """Scores and lambda over epochs, mu at the end; None where the method weighs nobody."""
    weighed = [epoch for epoch in about.epochs if epoch["train"].get("teaching_weights")]
    if not weighed:
        return None
    kept = next((one for one in weighed if one["epoch"] == about.result.best_epoch), weighed[-1])
    size = len(kept["train"]["teaching_weights"])
    lines = ("-", "--", "-.", ":")
    with matplotlib.rc_context(figures.RC):
        figure = Figure(figsize=(10.2, 3.6), layout="constrained")
        scores, weights, peers = figure.subplots(1, 3)
        x = [epoch["epoch"] for epoch in weighed]
        for axes, name, title in (
            (scores, "scores", "examination scores"),
            (weights, "teaching_weights", "weights of the teacher, lambda"),
        ):
            for k in range(size):
                values = [epoch["train"][name][k] for epoch in weighed]
                axes.plot(x, values, ls=lines[k % 4], lw=1, color=str(0.7 * k / size), label=f"student {k}")
            _frame(axes, title, about, legend=size <= 4)
        of_others = np.where(np.eye(size, dtype=bool), np.nan, kept["train"]["peer_weights"])
        shown = peers.imshow(of_others, cmap="Greys")
        figure.colorbar(shown, ax=peers, shrink=0.8)
        peers.set_title("weights of peers, mu", loc="left")
        peers.set_xlabel("peer")
        peers.set_ylabel("student")
        for axis in (peers.xaxis, peers.yaxis):
            axis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _frame(axes: Axes, title: str, about: About, *, legend: bool = True, plain: bool = True) -> None:
    axes.axvline(about.result.best_epoch, color="0.4", lw=0.8, ls=":")
    axes.set_title(title, loc="left")
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if plain:
        figures.frame(axes)
    if legend and axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=7.5)


def _importance(losses: Mapping[str, Sequence[float]]) -> Figure:
    return figures.per_field(list(losses), list(losses.values()), "AUC that a field's shuffling costs")


def _embeddings(result: Result) -> Table:
    used = result.document.get("embedding_use", {})
    rows = tuple(
        row(field, f"{use['effective_rank']:.1f}", f"{use['information_abundance']:.1f}")
        for field, use in used.items()
    )
    note = (
        "How many dimensions a field's embeddings use, mean over students' tables: few where they collapse."
    )
    return Table("Embeddings", ("field", "effective rank", "information abundance"), rows, (note,))


def _cost(result: Result) -> Table:
    document = result.document
    found = {
        "parameters": f"{document['params']:,}",
        "FLOPs a row predicted": _number(document.get("flops_per_sample"), ",.0f"),
        "training rows a second": _number(document.get("train_samples_per_second"), ",.0f"),
        "share of that waiting for rows": _number(document.get("input_wait"), ".1%"),
        "seconds of compilation": _number(document.get("compile_seconds"), ",.1f"),
        "seconds in all": _number(document.get("wall_seconds"), ",.0f"),
        "device": str(document.get("device", MISSING)),
        "mesh": ", ".join(f"{axis} {count}" for axis, count in document.get("mesh", {}).items()) or MISSING,
    }
    versions = {f"{name} version": str(version) for name, version in document.get("versions", {}).items()}
    return Table("Cost", ("what", ""), tuple(row(*one) for one in (found | versions).items()))


def _data(result: Result) -> Table:
    data = result.document.get("dataset", {})
    found = {"dataset": str(data.get("name", MISSING)), "features": _number(data.get("features"), ",.0f")}
    found |= {f"rows, {split}": f"{count:,}" for split, count in data.get("rows", {}).items()}
    files = data.get("source", {}).get("files", [])
    # MovieLens names its files by keys, tables list them: several of one name may be there.
    named = files.items() if isinstance(files, Mapping) else [(file["name"], file) for file in files]
    found |= {
        f"file {names.one_line(name)}": f"{file['bytes']:,} bytes, SHA-256 {file['sha256'][:12]}"
        for name, file in named
    }
    return Table("Data", ("what", ""), tuple(row(*one) for one in found.items()))


def _config(result: Result) -> Table:
    """Every key; those with another value than the default's are marked."""
    theirs, usual = (_flat(one.to_dict()) for one in (result.config, Config()))
    rows = tuple(
        (Cell(key), Cell(names.one_line(value, 120), int(usual.get(key) != value)))
        for key, value in theirs.items()
        if not key.startswith("ensemble.students.")
    )
    students = _flat({"ensemble": {"students": dict(result.students or result.config.ensemble.students)}})
    rows += tuple((Cell(key), Cell(names.one_line(value, 120))) for key, value in students.items())
    return Table("Config", ("key", "value"), rows, ("Bold: not the default. Students have all arguments.",))


def _flat(group: Mapping[str, Any], before: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in group.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{before}{key}.")
        else:
            found[f"{before}{key}"] = json.dumps(value, allow_nan=False)
    return found


def _number(value: float | None, form: str) -> str:
    return MISSING if value is None else format(value, form)
