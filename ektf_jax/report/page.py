"""The report: one content, written as a Markdown page with pictures beside it and as one HTML file."""

from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from ektf_jax.files import write_text
from ektf_jax.report import figures, names, render, results, seeds, tables
from ektf_jax.report.findings import Finding, findings
from ektf_jax.report.render import Block, Heading, Picture, Text
from ektf_jax.report.results import Run
from ektf_jax.report.tables import Cell, Table

_GUIDE = (
    "All metrics are of the test split, at the epoch of the best validation AUC of the ensemble. AUC is a"
    " fraction: the paper's 90.62 % is 0.9062. Higher AUC and lower logloss are better; the paper calls 0.001"
    " of either significant.",
    "Where a model was trained with several seeds a cell is their mean ± the sample standard deviation; p is"
    " of a two-tailed t-test over seeds (Welch's); ★ is p < 0.001 and better. The best of a column is bold,"
    " the second best italic or underlined; — is a run that is not there. Best and worst student are chosen"
    " by test AUC in each run, then averaged.",
    "Columns named paper hold what was published, on the authors' split of the data; difference is ours minus"
    " that. Seeds change our initialisation, dropout and order of rows, not the split.",
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
    """Write the report of all runs below `source`; returns the table of all runs as Markdown.

    Leaves report.md, report.html and the figures as PNG and SVG in `out`. A result that cannot be read is
    left out and named; InputError where that leaves none. `ceiling` is the best possible AUC, where the
    data's truth is known.
    """
    broken: list[str] = []
    runs, repeated = seeds.distinct(results.load(source, broken.append))
    blocks = _introduction(runs, repeated, broken)
    datasets = sorted({run.dataset for run in runs})
    for dataset in datasets:
        of_it = [run for run in runs if run.dataset == dataset]
        prefix = f"{names.file_name(dataset)}_" if len(datasets) > 1 else ""
        blocks += _dataset(of_it, dataset, prefix, ceiling)
    out.mkdir(parents=True, exist_ok=True)
    for block in blocks:
        if isinstance(block, Picture):
            figures.save(block.figure, out / block.name)
    write_text(out / "report.md", render.markdown(title, blocks))
    write_text(out / "report.html", render.page(title, blocks, out))
    summaries = [block for block in blocks if isinstance(block, Table) and block.title == tables.SUMMARY]
    left_out = [f"Left out: {names.one_line(message)}" for message in broken]
    return "\n\n".join([*map(render.markdown_table, summaries), *left_out]) + "\n"


def _introduction(runs: Sequence[Run], repeated: Sequence[Run], broken: Sequence[str]) -> list[Block]:
    versions = sorted(
        {names.literal(f"{name} {version}") for run in runs for name, version in run.versions.items()}
    )
    counts = {
        dataset: sum(run.dataset == dataset for run in runs)
        for dataset in sorted({run.dataset for run in runs})
    }
    per_dataset = ", ".join(
        f"{count} on {names.literal(_name(dataset))}" for dataset, count in counts.items()
    )
    listed = ", ".join(str(seed) for seed in sorted({run.seed for run in runs}))
    made_of = (
        f"Made from {len(runs)} result.json files: {per_dataset}. Seeds: {listed}. Devices:"
        f" {', '.join(sorted({names.literal(run.device) for run in runs}))}. Versions: {', '.join(versions)}."
    )
    blocks: list[Block] = [Heading("How to read this"), *map(Text, (*_GUIDE, made_of))]
    blocks += [Text(f"Left out, as it cannot be read: {names.literal(message)}.") for message in broken]
    if repeated:
        paths = ", ".join(names.code(run.path) for run in repeated)
        blocks.append(Text(f"Left out, as config and seed repeat those of another result: {paths}."))
    if variants := [group for group in seeds.groups(runs) if group.variant]:
        these = "; ".join(names.literal(f"{group.label}, K = {group.num_students}") for group in variants)
        blocks.append(
            Text(
                "Several settings of one model are here. Tables and figures use those with most seeds; only"
                f" the tables All runs and Cost also have: {these}."
            )
        )
    return blocks


def _dataset(runs: Sequence[Run], dataset: str, prefix: str, ceiling: float | None) -> list[Block]:
    """The sections of one dataset; one line names those that there are no runs for."""
    peers = [run for run in runs if run.peer]
    main = seeds.main_runs([run for run in runs if not run.peer])
    absent: list[str] = []
    blocks: list[Block] = [Heading(_name(dataset)), Text(_described(runs[0]))]

    def picture(name: str, figure: Figure | None, caption: str) -> None:
        if figure is None:
            absent.append(caption.partition(".")[0].partition(":")[0])
        else:
            blocks.append(Picture(prefix + name, figure, caption))

    picture(
        "students",
        figures.overview(main, f"{_name(dataset)}: students and their ensemble", ceiling),
        "Test AUC of every student and of the ensemble, of each run",
    )
    if found := findings(main, runs):
        blocks += [Heading("Findings of Section 3", 3), _findings_table(found)]
    else:
        absent.append("Findings of Section 3")
    in_paper: dict[str, Callable[[], Table | None]] = {
        "Table 2": lambda: tables.table_2(main, dataset),
        "Tests of EKTF": lambda: tables.claims(main, dataset, peers),
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
    drawn = {
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
        picture(name, figure, _CAPTIONS[name])
    for table in (tables.summary(runs), tables.cost(runs)):
        blocks += [Heading(table.title, 3), table]
    if absent:
        where = names.literal(_name(dataset))
        blocks.append(Text(f"Not here, for want of runs on {where}: {'; '.join(absent)}."))
    return blocks


def _described(run: Run) -> str:
    rows = ", ".join(f"{count:,} {split}" for split, count in run.rows.items())
    features = "" if run.features is None else f"{run.features:,} features; "
    return f"Dataset {names.code(run.dataset)}: {features}rows: {rows or 'not recorded'}."


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


def _name(dataset: str) -> str:
    return names.DATASETS.get(dataset, dataset)
