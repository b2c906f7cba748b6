"""The report of the paper's experiments: Findings 1 to 6, Tables 2 to 5, Figures 2 to 8."""

from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from ektf_jax.report import names, page
from ektf_jax.report.page import Report, Section
from ektf_jax.report.paper import claims, figures, select, tables
from ektf_jax.report.paper.findings import Finding, findings
from ektf_jax.report.paper.names import INDEXED, NAMES
from ektf_jax.report.render import Block, Heading, Picture
from ektf_jax.report.results import Outcome
from ektf_jax.report.tables import Cell, Table

_GUIDE = (
    "All metrics are of the test split, at the epoch of the best validation AUC of the ensemble. AUC is a"
    " fraction: the paper's 90.62 % is 0.9062. Higher AUC and lower logloss are better; the paper calls 0.001"
    " of either significant.",
    "Where a model was trained with several seeds a cell is their mean ± the sample standard deviation; p is"
    " of a two-tailed t-test over seeds (Welch's), and beside it stands which way: better or worse; ★ is"
    " p < 0.001 and better. The best of a column is bold, the second best italic or underlined; — is a run"
    " that is not there. Choices are made by validation: the best of a column, the best baseline, the best"
    " and the worst student of each run, whose test metrics are then averaged.",
    "Columns named paper, or BARS, hold what was published, on the authors' split of the data; difference is"
    " ours minus that. Seeds change our initialisation, dropout and order of rows, not the split.",
    "In figures over K the axis is not to scale, bars are one standard deviation over seeds to either side,"
    " and where a curve lacks a K that another of ours has it is broken. At K = 1 all methods are the single"
    " MLP.",
)

_CAPTIONS = {
    "figure_2": "Figure 2. Plain ensembles of K equal MLPs that are fused by mean, sum or concatenation and"
    " trained by the loss of the ensemble alone. (b) From the worst student (hollow) to the best; students of"
    " concat have no predictions of their own.",
    "figure_3": "Figure 3. Knowledge distillation (Eq. 2) from the ensemble to K equal MLPs, beside the plain"
    " mean ensemble. (b) From the worst student (hollow) to the best.",
    "figure_4": "Figure 4. How far the best of K equal MLPs is below its ensemble: (a) with knowledge"
    " distillation, (b) with deep mutual learning, each beside the plain mean ensemble.",
    "figure_5": "Figure 5. Deep mutual learning (Eq. 3) among K equal MLPs, beside the plain mean ensemble."
    " (b) From the worst student (hollow) to the best.",
    "figure_7": "Figure 7. EKTF, KD and DML with K equal MLPs. (b) From the worst student (hollow) to the"
    " best.",
    "figure_8": "Figure 8. EKTF over the number of students, and the authors' published runs on their split"
    " of the data. Hollow: best student. Crosses: the authors' code on this split, one seed each.",
    "curves": "Training curves: validation AUC of the ensemble after each epoch, one run of each. A circle"
    " marks the epoch whose weights are kept.",
}


def write(source: Path, out: Path, *, title: str, ceiling: float | None = None) -> str:
    """Write the report of all runs below `source`, as `report.page.write` does."""
    return page.write(source, out, PAPER, NAMES, title=title, ceiling=ceiling)


def _section(main: Sequence[Outcome], runs: Sequence[Outcome], dataset: str) -> Section:
    peers = [run for run in runs if run.peer]
    absent: list[str] = []
    blocks: list[Block] = []
    if found := findings(main, runs):
        blocks += [Heading("Findings of Section 3", 3), _findings_table(found)]
    else:
        absent.append("Findings of Section 3")
    in_paper: dict[str, Callable[[], Table | None]] = {
        "Table 2": lambda: tables.table_2(main, dataset),
        "Tests of EKTF": lambda: claims.claims(main, dataset, peers),
        "Table 3": lambda: tables.table_3(main),
        "Table 4": lambda: tables.table_4(main, dataset),
        "Table 5": lambda: tables.table_5(main),
    }
    if dataset not in names.DATASETS:
        in_paper = {}
        absent.append("Tables 2 to 5, which are about the paper's datasets")
    for name, make in in_paper.items():
        if (table := make()) is None:
            absent.append(name)
        else:
            blocks += [Heading(table.title, 3), table]
    drawn: dict[str, Figure | None] = {
        "figure_2": figures.figure_2(main),
        "figure_3": figures.figure_3(main),
        "figure_4": figures.figure_4(main),
        "figure_5": figures.figure_5(main),
        "figure_7": figures.figure_7(main),
        "figure_8": figures.figure_8(main, dataset),
        "curves": figures.curves(main),
    }
    if any(drawn.values()):
        blocks.append(Heading("Figures", 3))
    for name, figure in drawn.items():
        caption = _CAPTIONS[name]
        if figure is None:
            absent.append(caption.partition(".")[0].partition(":")[0])
        else:
            blocks.append(Picture(name, figure, caption))
    return Section(blocks, absent)


def _findings_table(found: Sequence[Finding]) -> Table:
    return Table(
        "Findings of Section 3",
        ("finding", "here", "measured"),
        tuple((Cell(one.claim), Cell(one.verdict), Cell(one.measured)) for one in found),
        (
            "The verdicts follow rules: a change counts from 0.001 AUC on, from the smallest K to the"
            " largest; a finding of several parts is seen in part where some hold.",
        ),
    )


PAPER = Report(
    guide=_GUIDE,
    section=_section,
    in_overview=select.in_overview,
    apart=select.ektf(),
    indexed=INDEXED,
)
