"""The paper's Tables 2 to 5 and three of our own, as data; `render` makes text of them.

All but `summary` and `cost` take the runs of one dataset without variants (`seeds.main_runs`), and `claims`
those of the peer besides.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ektf_jax.report import names, published, select
from ektf_jax.report.published import Metrics
from ektf_jax.report.results import Run
from ektf_jax.report.seeds import Group, deviation, groups, mean, p_value, seeds_for

MISSING = "—"
SUMMARY = "All runs"
STAR = "★"
SIGNIFICANT = 1e-3  # the paper's level: p below it gets a star
_COUNTS = 1e-3  # a difference in AUC that the paper calls significant


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


@dataclass(frozen=True)
class Row:
    """A model of a table: its test metrics, one per seed, and what the paper has; () and None without.

    `tested`: it is compared with the best baseline. `base`: the index of the row that it is a gain over.
    """

    title: str
    values: tuple[Metrics, ...]
    published: Metrics | None = None
    size: str = ""
    tested: bool = False
    base: int | None = None

    def of(self, metric: str) -> tuple[float, ...]:
        return tuple(getattr(value, metric) for value in self.values)


def summary(runs: Sequence[Run]) -> Table:
    """A row per model and K, whatever was run; best and worst student and lead are per run, then averaged."""
    rows = []
    for group in groups(runs):
        auc = group.over(lambda run: run.ensemble.auc)
        logloss = group.over(lambda run: run.ensemble.logloss)
        students = ("-", "-", "-")
        if all(run.students for run in group.runs):
            best = mean(group.over(lambda run: run.best_student.auc))
            worst = mean(group.over(lambda run: run.worst_student.auc))
            students = (f"{best:.4f}", f"{worst:.4f}", f"{mean(auc) - best:+.4f}")
        rows.append(
            _cells(
                group.label,
                str(group.num_students),
                str(len(group.runs)),
                f"{group.runs[0].parameters:,}",
                _spread(auc, 4),
                f"{mean(logloss):.{_digits([mean(logloss)])}f}",
                *students,
            )
        )
    header = "model,K,seeds,parameters,ensemble AUC,logloss,best student,worst student,lead"
    return Table(SUMMARY, tuple(header.split(",")), tuple(rows))


def table_2(runs: Sequence[Run], dataset: str) -> Table | None:
    """The paper's Table 2: models alone, EKTF_MLP by K with its best student, EKTF_Latest.

    None without any of its runs. The paper does not say the K of its EKTF_MLP.
    """
    paper = published.metrics(2, dataset)
    rows: list[Row] = []
    for model in published.metrics(2, "criteo"):
        if model == "ektf_latest":
            found = _find(runs, select.ektf(), select.of(*select.LATEST))
            rows.append(_row("EKTF_Latest", found, paper.get(model), size="3", tested=True))
        elif model in ("ektf_mlp", "ektf_mlp_best_student"):
            for size in select.sizes(_find(runs, select.ektf(), select.of_mlps)):
                found = _find(runs, select.ektf(), select.of_mlps, select.sized(size))
                best = model != "ektf_mlp"
                values = tuple(run.best_student if best else run.ensemble for run in found)
                title = "EKTF_MLP, best student" if best else "EKTF_MLP"
                rows.append(Row(title, values, paper.get(model), str(size), tested=True))
        else:
            found = _find(runs, select.alone(model))
            rows.append(_row(names.model(model), found, paper.get(model), size="1"))
    if not any(row.values for row in rows):
        return None
    columns: list[list[Cell]] = []
    for metric in ("auc", "logloss"):
        baseline = _best_baseline(rows, metric)
        columns += [
            _measured(rows, metric, baseline),
            *_beside_published(rows, metric),
            _tests(rows, metric, baseline),
        ]
    notes = [_test_note(rows), _logged_note(dataset, paper)]
    header = "model,K,seeds,AUC,paper,difference,p,logloss,paper,difference,p"
    return _assemble("Table 2: models alone, and EKTF", header, rows, columns, notes)


def claims(runs: Sequence[Run], dataset: str, peers: Sequence[Run] = ()) -> Table | None:
    """EKTF against the single MLP, the plain mean of the same students and the authors' EKTF, tested.

    `peers` are runs of another implementation. None where no pair of these was run.
    """
    latest = select.of(*select.LATEST)
    cases: list[tuple[str, int, str, select.Is]] = [
        ("EKTF_MLP", size, "EKTF", select.both(select.of_mlps, select.sized(size)))
        for size in select.sizes(_find(runs, select.of_mlps))
    ]
    cases.append(("EKTF_Latest", len(select.LATEST), "EKTF_L", latest))
    tested: list[_Tested] = []
    for title, size, family, students in cases:
        ours = _row(title, _find(runs, select.ektf(), students), size=str(size))
        others = [
            _row("MLP", _find(runs, select.alone("mlp"))),
            _row("plain mean of the same", _find(runs, select.method("none"), students)),
        ]
        if theirs := _find(peers, select.ektf(), students):
            others.append(_row(f"the same by {theirs[0].peer}", theirs))
        if again := published.reruns(dataset, family, size):
            others.append(Row(_AUTHORS, again))
        tested += [_Tested(ours, other) for other in others]
    here = [pair for pair in tested if pair.ours.values and pair.other.values]
    if not any(pair.other.title != _AUTHORS for pair in here):
        return None
    header = "model,K,seeds,against,its seeds,AUC difference,p,seeds for ★,logloss difference,p"
    notes = (
        f"{STAR}: better, with p < {SIGNIFICANT:g}. Without p: fewer than two seeds on a side. Seeds for"
        f" {STAR}: how many a side this difference in AUC would take, should means and deviations stay.",
        *(["The same by another implementation: `benchmarks.accuracy`, on the same rows."] if peers else []),
        *([_AUTHORS_NOTE] if any(pair.other.title == _AUTHORS for pair in here) else []),
        *_verdicts(here),
        f"Runs of both sides of {len(here)} of {len(tested)} rows are here.",
    )
    return Table(
        "Does EKTF beat a single MLP and the plain mean?",
        tuple(header.split(",")),
        tuple(pair.cells() for pair in tested),
        notes,
    )


_AUTHORS = "the authors' code, this split"
_AUTHORS_NOTE = (
    "The authors' code, this split: their model class, trained for this project on the same split up to one"
    " row (`ektf_jax/report/published`)."
)


@dataclass(frozen=True)
class _Tested:
    """A row of ours and the one it is tested against."""

    ours: Row
    other: Row

    def gain(self, metric: str) -> float:
        return mean(self.ours.of(metric)) - mean(self.other.of(metric))

    def p(self, metric: str) -> float:
        return p_value(self.ours.of(metric), self.other.of(metric))

    def holds(self) -> bool:
        """Whether ours has the higher AUC, significantly."""
        return self.gain("auc") > 0 and self.p("auc") < SIGNIFICANT

    def seeds_for_star(self) -> str:
        """Empty where ours is not better or there is a star already."""
        if self.holds() or math.isnan(self.p("auc")) or self.gain("auc") <= 0:
            return ""
        needed = seeds_for(SIGNIFICANT, self.ours.of("auc"), self.other.of("auc"))
        return "over 1,000" if needed is None else str(needed)

    def cells(self) -> tuple[Cell, ...]:
        ours, other = self.ours, self.other
        shown = {
            metric: (
                _signed(self.gain(metric), _digits(other.of(metric)))
                + _star(ours.of(metric), other.of(metric), metric),
                _probability(self.p(metric)),
            )
            for metric in ("auc", "logloss")
        }
        return _cells(
            *(ours.title, ours.size, str(len(ours.values)), other.title, str(len(other.values))),
            *(*shown["auc"], self.seeds_for_star(), *shown["logloss"]),
        )


def _verdicts(pairs: Sequence[_Tested]) -> list[str]:
    """In words, by AUC: over what EKTF is better, over what it is not and why, and what no test can tell."""

    def named(pair: _Tested) -> str:
        return f"{pair.ours.title} K = {pair.ours.size} over {pair.other.title}"

    claimed = [pair for pair in pairs if pair.other.title in ("MLP", "plain mean of the same")]
    held = [named(pair) for pair in claimed if pair.holds()]
    failed = [
        f"{named(pair)} ({_signed(pair.gain('auc'), 4)}, where seeds alone differ by"
        f" {deviation(pair.ours.of('auc')):.4f} and {deviation(pair.other.of('auc')):.4f})"
        for pair in claimed
        if not pair.holds() and not math.isnan(pair.p("auc"))
    ]
    untested = sum(math.isnan(pair.p("auc")) for pair in claimed)
    verdicts = [
        f"Significantly better by AUC: {'; '.join(held) or 'nothing'}.",
        *([f"Not significantly: {'; '.join(failed)}."] if failed else []),
        *([f"Pairs with too few seeds for a test: {untested}."] if untested else []),
    ]
    return [" ".join(verdicts)]


def table_3(runs: Sequence[Run]) -> Table | None:
    """The paper's Table 3: EKTF_Latest without some of its parts. None without any of its runs."""
    variants = {
        "EKTF_Latest": select.ektf(),
        "only KD": select.ektf(dml=False),
        "only DML": select.ektf(kd=False),
        "w/o EM": select.ektf(examination=False),
        "w/o all": select.method("none"),
    }
    latest = select.of(*select.LATEST)
    rows = [_row(title, _find(runs, is_it, latest)) for title, is_it in variants.items()]
    return _against_ektf("Table 3: parts of EKTF left out of EKTF_Latest", rows, reference=0)


def table_4(runs: Sequence[Run], dataset: str) -> Table | None:
    """The paper's Table 4: each model alone, and as a student of EKTF. None without any of its runs.

    PNN, FINAL(1B) and ECN are students of EKTF_Latest; the others, of EKTF over these three and the model.
    """
    paper = published.metrics(4, dataset)
    rows: list[Row] = []
    epochs: list[float] = []
    for model in published.metrics(4, "criteo"):
        if not model.startswith("ektf_"):
            found = _find(runs, select.alone(model))
            epochs.append(mean([run.epochs for run in found]))
            rows.append(_row(names.model(model), found, paper.get(model), size="1"))
            continue
        kind = model.removeprefix("ektf_")
        students = tuple({*select.LATEST, kind})
        found = _find(runs, select.ektf(), select.of(*students))
        values = tuple(run.students[run.kinds.index(kind)] for run in found)
        size, base = str(len(students)), len(rows) - 1
        epochs.append(mean([run.epochs for run in found]))
        rows.append(Row(f"EKTF_{names.model(kind)}", values, paper.get(model), size, base=base))
    if not any(row.values for row in rows):
        return None
    columns = [
        _measured(rows, "auc"),
        *_beside_published(rows, "auc"),
        *_gains(rows, "auc"),
        _measured(rows, "logloss"),
        *_beside_published(rows, "logloss"),
    ]
    header = "model,K,seeds,AUC,paper,difference,gain,paper's gain,logloss,paper,difference"
    notes = [
        "A gain is in AUC, over the model alone in the row above. K is the number of students in training.",
        "FINAL(1B) inside EKTF stands beside FINAL(2B) alone, as in the paper.",
    ]
    if opposite := _opposite_gains(rows, epochs):
        notes.append(
            f"Gains of 0.001 or more whose sign is opposite to the paper's: {'; '.join(opposite)}. In EKTF"
            " the learning rate and the end follow the ensemble, whether or not this student still learns."
        )
    return _assemble("Table 4: models alone, and as students of EKTF", header, rows, columns, notes)


def _opposite_gains(rows: Sequence[Row], epochs: Sequence[float]) -> list[str]:
    """Models of Table 4 that gain here and lose in the paper, or the other way, with their mean epochs."""
    found = []
    for row, inside in zip(rows, epochs, strict=True):
        if row.base is None:
            continue
        base = rows[row.base]
        if not row.published or not base.published:
            continue
        ours = mean(row.of("auc")) - mean(base.of("auc"))
        theirs = row.published.auc - base.published.auc
        if ours * theirs < 0 and min(abs(ours), abs(theirs)) >= _COUNTS:
            found.append(f"{base.title} (alone {epochs[row.base]:.3g} epochs, inside EKTF {inside:.3g})")
    return found


def table_5(runs: Sequence[Run]) -> Table | None:
    """The paper's Table 5: transfer methods over the students of EKTF_Latest; metrics of the ensemble.

    ECKD has one student, of whatever kind, and so has DAGFM, whose rows are fine-tuned students. None without
    any of its runs.
    """
    latest = select.of(*select.LATEST)
    conditions: dict[str, select.Is] = {}
    for divergence in ("mse", "kl"):
        options: dict[str, str] = {"divergence": divergence}
        title = names.method("online_kd", options, "mean")
        conditions[title] = select.both(select.method("online_kd", **options), latest)
    for variant in ("naive", "minlogit", "linear", "general"):
        for divergence in ("mse", "kl"):
            options = {"variant": variant, "divergence": divergence}
            title = names.method("kdcl", options, "mean")
            conditions[title] = select.both(select.method("kdcl", **options), latest)
    conditions[names.method("eckd", {}, "mean")] = select.method("eckd")
    for interaction in ("inner", "outer", "kernel"):
        kind = f"dagfm_{interaction}"
        finetuned = select.method("dagfm", stage="finetuning")
        conditions[names.model(kind)] = select.both(finetuned, select.of(kind))
    conditions["EKTF"] = select.both(select.ektf(), latest)
    rows = [_row(title, _find(runs, is_it)) for title, is_it in conditions.items()]
    return _against_ektf("Table 5: EKTF and other transfer methods", rows, reference=len(rows) - 1)


def cost(runs: Sequence[Run]) -> Table:
    """A row per model and K: parameters, and time and epochs averaged over its runs."""

    def cells(group: Group) -> tuple[Cell, ...]:
        minutes = mean(group.over(lambda run: run.wall_seconds / 60))
        return _cells(
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


def _find(runs: Sequence[Run], *conditions: select.Is) -> list[Run]:
    return [run for run in runs if select.both(*conditions)(run)]


def _row(
    title: str,
    runs: Sequence[Run],
    paper: Metrics | None = None,
    size: str = "",
    tested: bool = False,
) -> Row:
    return Row(title, tuple(run.ensemble for run in runs), paper, size, tested)


def _assemble(
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


def _against_ektf(title: str, rows: list[Row], reference: int) -> Table | None:
    """A table of ours only: metrics, their distance to the row of EKTF, and that the paper's are an image."""
    if not any(row.values for row in rows):
        return None
    columns: list[list[Cell]] = []
    for metric in ("auc", "logloss"):
        against = [replace(row, base=reference if row is not rows[reference] else None) for row in rows]
        columns += [_measured(rows, metric), _gains(against, metric)[0], [Cell("image")] * len(rows)]
    table = _assemble(
        title,
        "method,K,seeds,AUC,to EKTF,paper,logloss,to EKTF,paper",
        rows,
        columns,
        ["The paper's numbers are an image in our copy of it, so there are none to stand beside ours."],
    )
    # K is the same in all rows.
    return replace(
        table,
        header=table.header[:1] + table.header[2:],
        rows=tuple(row[:1] + row[2:] for row in table.rows),
    )


def _measured(rows: Sequence[Row], metric: str, baseline: Row | None = None) -> list[Cell]:
    """Mean over seeds ± deviation, a star where tested and better, and the two best marked."""
    digits = _digits([value for row in rows for value in row.of(metric)])
    shown = [round(mean(row.of(metric)), digits) for row in rows]
    ranks = _ranks(shown, highest=metric == "auc")
    cells = []
    for row, rank in zip(rows, ranks, strict=True):
        star = _star(row.of(metric), baseline.of(metric), metric) if baseline and row.tested else ""
        cells.append(Cell(_spread(row.of(metric), digits) + star, rank))
    return cells


def _beside_published(rows: Sequence[Row], metric: str) -> list[list[Cell]]:
    """Two columns: the paper's number, and ours minus it."""
    paper = [getattr(row.published, metric) if row.published else math.nan for row in rows]
    digits = _digits([value for value in paper if not math.isnan(value)])
    ours = [mean(row.of(metric)) for row in rows]
    return [
        [Cell(MISSING if math.isnan(value) else f"{value:.{digits}f}") for value in paper],
        [Cell(_signed(own - value, digits)) for own, value in zip(ours, paper, strict=True)],
    ]


def _gains(rows: Sequence[Row], metric: str) -> list[list[Cell]]:
    """Two columns: what a row gains over its base, ours and the paper's; empty for rows without a base."""
    digits = _digits([value for row in rows for value in row.of(metric)])
    ours, paper = [], []
    for row in rows:
        if row.base is None:
            ours.append(Cell(""))
            paper.append(Cell(""))
            continue
        base = rows[row.base]
        ours.append(Cell(_signed(mean(row.of(metric)) - mean(base.of(metric)), digits)))
        gain = math.nan
        if row.published and base.published:
            gain = getattr(row.published, metric) - getattr(base.published, metric)
        paper.append(Cell(_signed(gain, digits)))
    return [ours, paper]


def _best_baseline(rows: Sequence[Row], metric: str) -> Row | None:
    """The untested row of two seeds or more with the best mean."""
    candidates = [row for row in rows if not row.tested and len(row.values) > 1]
    best = max if metric == "auc" else min
    return best(candidates, key=lambda row: mean(row.of(metric)), default=None)


def _tests(rows: Sequence[Row], metric: str, baseline: Row | None) -> list[Cell]:
    """p of the tested rows against the baseline, empty for the others."""
    return [
        Cell(_probability(p_value(row.of(metric), baseline.of(metric) if baseline else ())))
        if row.tested
        else Cell("")
        for row in rows
    ]


def _test_note(rows: Sequence[Row]) -> str:
    """What the p-values are against, which baselines are better but cannot be it, and how many have no p."""
    against, better = [], []
    for name, metric in (("AUC", "auc"), ("logloss", "logloss")):
        baseline = _best_baseline(rows, metric)
        if baseline is None:
            return "No baseline has two seeds or more, so nothing is tested."
        against.append(f"by {name} {baseline.title} ({len(baseline.values)} seeds)")
        single = [row for row in rows if not row.tested and len(row.values) == 1]
        above = [row.title for row in single if _is_better(row.of(metric), baseline.of(metric), metric)]
        better += [f"by {name} {', '.join(above)}"] if above else []
    few = sum(row.tested and len(row.values) == 1 for row in rows)
    return (
        f"p and {STAR} (better, with p < {SIGNIFICANT:g}) are against the best baseline with two seeds or"
        f" more, {', '.join(against)}."
        + (f" Better, but of one seed: {'; '.join(better)}." if better else "")
        + f" Rows of EKTF with one seed, too few for a test: {few}."
    )


def _logged_note(dataset: str, paper: dict[str, Metrics]) -> str:
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


def _ranks(values: Sequence[float], *, highest: bool) -> list[int]:
    """1 for the best, 2 for the second best, 0 for the rest; equal values share. All 0 for one value."""
    order = sorted({value for value in values if not math.isnan(value)}, reverse=highest)
    if len(order) < 2:
        return [0] * len(values)
    return [order.index(value) + 1 if value in order[:2] else 0 for value in values]


def _star(ours: Sequence[float], theirs: Sequence[float], metric: str) -> str:
    significant = p_value(ours, theirs) < SIGNIFICANT
    return f" {STAR}" if significant and _is_better(ours, theirs, metric) else ""


def _is_better(ours: Sequence[float], theirs: Sequence[float], metric: str) -> bool:
    return mean(ours) > mean(theirs) if metric == "auc" else mean(ours) < mean(theirs)


def _digits(values: Sequence[float]) -> int:
    """Four, or six where all are as small as iPinYou's logloss."""
    return 6 if values and max(values) < 0.05 else 4


def _spread(values: Sequence[float], digits: int) -> str:
    if not values:
        return MISSING
    spread = deviation(values)
    return f"{mean(values):.{digits}f}" + ("" if math.isnan(spread) else f" ± {spread:.{digits}f}")


def _signed(value: float, digits: int) -> str:
    """With its sign, but for what rounds to zero."""
    if math.isnan(value):
        return MISSING
    rounded = round(value, digits)
    return f"{rounded:+.{digits}f}" if rounded else f"{0:.{digits}f}"


def _probability(p: float) -> str:
    return MISSING if math.isnan(p) else f"{p:.1e}" if p < 1e-3 else f"{p:.3f}"


def _cells(*texts: str) -> tuple[Cell, ...]:
    return tuple(map(Cell, texts))
