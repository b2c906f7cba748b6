"""Rows of the paper's tables and the columns that are made of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ektf_jax.report.paper import published, select
from ektf_jax.report.results import Metrics, Outcome
from ektf_jax.report.seeds import mean, p_value
from ektf_jax.report.tables import MISSING, STAR, Cell, Table, digits_of, probability, ranked, signed, spread

SIGNIFICANT = 1e-3  # the paper's level: p below it gets a star


@dataclass(frozen=True)
class Row:
    """A model of a table: its metrics of the test split and of validation, a value per seed, and the paper's.

    () and None where there are none.
    `tested`: it is compared with the best baseline. `base`: the index of the row that it is a gain over.
    """

    title: str
    values: tuple[Metrics, ...]
    valid: tuple[Metrics, ...]
    published: Metrics | None = None
    size: str = ""
    tested: bool = False
    base: int | None = None

    def of(self, metric: str) -> tuple[float, ...]:
        return tuple(getattr(value, metric) for value in self.values)

    def on_validation(self, metric: str) -> tuple[float, ...]:
        return tuple(getattr(value, metric) for value in self.valid)


def find(runs: Sequence[Outcome], *conditions: select.Is) -> list[Outcome]:
    return [run for run in runs if select.both(*conditions)(run)]


def make_row(
    title: str,
    runs: Sequence[Outcome],
    paper: Metrics | None = None,
    size: str = "",
    tested: bool = False,
) -> Row:
    values, valid = (tuple(getattr(run, split) for run in runs) for split in ("ensemble", "valid"))
    return Row(title, values, valid, paper, size, tested)


def assemble(
    title: str, header: str, rows: list[Row], columns: list[list[Cell]], notes: Sequence[str]
) -> Table:
    """A table of rows that begin with model, K and seeds and go on with the columns."""
    left = [[Cell(row.title), Cell(row.size), Cell(str(len(row.values)))] for row in rows]
    names_ = [
        f"{row.title} K = {row.size}" if row.title.startswith("EKTF_MLP") else row.title for row in rows
    ]
    missing = [name for name, row in zip(names_, rows, strict=True) if not row.values]
    return Table(
        title,
        tuple(header.split(",")),
        tuple((*cells, *rest) for cells, rest in zip(left, zip(*columns, strict=True), strict=True)),
        tuple(note for note in (*notes, _completeness(len(rows), missing)) if note),
    )


def against_ektf(title: str, rows: list[Row], reference: int) -> Table | None:
    """A table of ours only: metrics and their distance to the row of EKTF."""
    if not any(row.values for row in rows):
        return None
    columns: list[list[Cell]] = []
    for metric in ("auc", "logloss"):
        against = [replace(row, base=reference if row is not rows[reference] else None) for row in rows]
        columns += [*measured(rows, metric), gains(against, metric)[0]]
    table = assemble(
        title,
        "method,K,seeds,validation AUC,AUC,to EKTF,validation logloss,logloss,to EKTF",
        rows,
        columns,
        ["The paper's numbers of this table are an image in our copy of it, so none stand beside ours."],
    )
    # K is the same in all rows.
    return replace(
        table,
        header=table.header[:1] + table.header[2:],
        rows=tuple(row[:1] + row[2:] for row in table.rows),
    )


def measured(rows: Sequence[Row], metric: str, baseline: Row | None = None) -> list[list[Cell]]:
    """Two columns, means over seeds ± deviation: of validation, the two best marked, and of the test split.

    The latter has a star where a row is tested and better.
    """
    digits = digits_of([value for row in rows for value in row.of(metric)])
    shown = [round(mean(row.on_validation(metric)), digits) for row in rows]
    ranks = ranked(shown, highest=metric == "auc")
    valid, test = [], []
    for row, rank in zip(rows, ranks, strict=True):
        star = star_of(row.of(metric), baseline.of(metric), metric) if baseline and row.tested else ""
        valid.append(Cell(spread(row.on_validation(metric), digits), rank))
        test.append(Cell(spread(row.of(metric), digits) + star))
    return [valid, test]


def beside_published(rows: Sequence[Row], metric: str) -> list[list[Cell]]:
    """Two columns: the paper's number, and ours minus it."""
    paper = [getattr(row.published, metric) if row.published else math.nan for row in rows]
    digits = digits_of([value for value in paper if not math.isnan(value)])
    ours = [mean(row.of(metric)) for row in rows]
    return [
        [Cell(MISSING if math.isnan(value) else f"{value:.{digits}f}") for value in paper],
        [Cell(signed(own - value, digits)) for own, value in zip(ours, paper, strict=True)],
    ]


def gains(rows: Sequence[Row], metric: str) -> list[list[Cell]]:
    """Two columns: what a row gains over its base, ours and the paper's; empty for rows without a base."""
    digits = digits_of([value for row in rows for value in row.of(metric)])
    ours, paper = [], []
    for row in rows:
        if row.base is None:
            ours.append(Cell(""))
            paper.append(Cell(""))
            continue
        base = rows[row.base]
        ours.append(Cell(signed(mean(row.of(metric)) - mean(base.of(metric)), digits)))
        gain = math.nan
        if row.published and base.published:
            gain = getattr(row.published, metric) - getattr(base.published, metric)
        paper.append(Cell(signed(gain, digits)))
    return [ours, paper]


def best_baseline(rows: Sequence[Row], metric: str) -> Row | None:
    """The untested row of two seeds or more with the best mean on validation."""
    candidates = [row for row in rows if not row.tested and len(row.values) > 1]
    best = max if metric == "auc" else min
    return best(candidates, key=lambda row: mean(row.on_validation(metric)), default=None)


def p_values(rows: Sequence[Row], metric: str, baseline: Row | None) -> list[Cell]:
    """p of the tested rows against the baseline, empty for the others."""
    return [
        Cell(p_text(row.of(metric), baseline.of(metric) if baseline else (), metric))
        if row.tested
        else Cell("")
        for row in rows
    ]


def test_note(rows: Sequence[Row]) -> str:
    """What the p-values are against, which baselines are better but cannot be it, and how many have no p."""
    against, better = [], []
    for name, metric in (("AUC", "auc"), ("logloss", "logloss")):
        baseline = best_baseline(rows, metric)
        if baseline is None:
            return "No baseline has two seeds or more, so nothing is tested."
        against.append(f"by {name} {baseline.title} ({len(baseline.values)} seeds)")
        single = [row for row in rows if not row.tested and len(row.values) == 1]
        above = [row.title for row in single if is_better(row.of(metric), baseline.of(metric), metric)]
        better += [f"by {name} {', '.join(above)}"] if above else []
    few = sum(row.tested and len(row.values) == 1 for row in rows)
    return (
        f"p, which way, and {STAR} (better, with p < {SIGNIFICANT:g}) are against the best baseline with two"
        f" seeds or more, {', '.join(against)}."
        + (f" Better, but of one seed: {'; '.join(better)}." if better else "")
        + f" Rows of EKTF with one seed, too few for a test: {few}."
    )


def logged_note(dataset: str, paper: dict[str, Metrics]) -> str:
    """Which of the authors' runs has the paper's EKTF_MLP."""
    if "ektf_mlp" not in paper:
        return ""
    same = [
        f"`{run.name}` with K = {run.num_students}"
        for run in published.logged_runs(dataset, "EKTF")
        if run.cut() == paper["ektf_mlp"]
    ]
    found = f"the authors' log that has its numbers: {', '.join(same)}" if same else "no log has its numbers"
    return f"The paper does not say the K of its EKTF_MLP, so its row stands beside each of ours; {found}."


def _completeness(total: int, missing: Sequence[str]) -> str:
    rest = f"; missing: {'; '.join(missing)}" if missing else ""
    return f"Runs for {total - len(missing)} of {total} rows are here{rest}."


def p_text(ours: Sequence[float], theirs: Sequence[float], metric: str) -> str:
    """p of the two, and which way they differ: "0.027 worse" where ours are."""
    p = p_value(ours, theirs)
    if math.isnan(p) or mean(ours) == mean(theirs):
        return probability(p)
    return f"{probability(p)} {'better' if is_better(ours, theirs, metric) else 'worse'}"


def star_of(ours: Sequence[float], theirs: Sequence[float], metric: str) -> str:
    significant = p_value(ours, theirs) < SIGNIFICANT
    return f" {STAR}" if significant and is_better(ours, theirs, metric) else ""


def is_better(ours: Sequence[float], theirs: Sequence[float], metric: str) -> bool:
    return mean(ours) > mean(theirs) if metric == "auc" else mean(ours) < mean(theirs)
