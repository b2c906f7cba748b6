"""The report: one content, written as a Markdown page with pictures beside it and as one HTML file."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from ektf_jax.report import figures, names, render, results, seeds, tables, web
from ektf_jax.report.names import Names
from ektf_jax.report.render import Block, Heading, Picture, Text
from ektf_jax.report.results import Outcome
from ektf_jax.report.tables import Table

_OVERVIEW = "Test AUC of every student and of the ensemble, of each run. Panels have scales of their own."


class Section(NamedTuple):
    """What a report says of a dataset, and the names of what it would if there were runs for it."""

    blocks: Sequence[Block]
    absent: Sequence[str]


@dataclass(frozen=True)
class Report:
    """What a report has beside what is in all: how it is read, and sections of a dataset.

    `section` is given the dataset's runs without variants, all of them, and its name. Its pictures are
    named as if it were the only one. `indexed`: see `web.page`. `in_overview` chooses runs for the overview
    where they are many, and without it there is none; `apart` those that have a panel of their own scale.
    """

    guide: Sequence[str]
    section: Callable[[Sequence[Outcome], Sequence[Outcome], str], Section]
    indexed: Collection[str] = ()
    in_overview: Callable[[Outcome], bool] | None = None
    apart: Callable[[Outcome], bool] = lambda run: False


def write(
    source: Path, out: Path, report: Report, called: Names, *, title: str, ceiling: float | None = None
) -> str:
    """Write the report of all runs below `source`; returns the table of all runs as Markdown.

    Leaves report.md, report.html and the figures as PNG and SVG in `out`. A result that cannot be read is
    left out and named; InputError where that leaves none. `ceiling` is the best possible AUC, where the
    data's truth is known.
    """
    broken: list[str] = []
    runs, repeated = seeds.distinct(results.load(source, broken.append, called))
    blocks = _introduction(report.guide, runs, repeated, broken)
    datasets = sorted({run.dataset for run in runs})
    for dataset in datasets:
        of_it = [run for run in runs if run.dataset == dataset]
        prefix = f"{names.file_name(dataset)}_" if len(datasets) > 1 else ""
        blocks += _dataset(report, of_it, dataset, prefix, ceiling)
    web.write(out, "report", title, blocks, report.indexed)
    summaries = [block for block in blocks if isinstance(block, Table) and block.title == tables.SUMMARY]
    left_out = [f"Left out: {names.one_line(message)}" for message in broken]
    return "\n\n".join([*map(render.markdown_table, summaries), *left_out]) + "\n"


def _introduction(
    guide: Sequence[str], runs: Sequence[Outcome], repeated: Sequence[Outcome], broken: Sequence[str]
) -> list[Block]:
    versions = sorted(
        {names.literal(f"{name} {version}") for run in runs for name, version in run.versions.items()}
    )
    counts = {
        dataset: sum(run.dataset == dataset for run in runs)
        for dataset in sorted({run.dataset for run in runs})
    }
    per_dataset = ", ".join(
        f"{count} on {names.literal(names.dataset(dataset))}" for dataset, count in counts.items()
    )
    listed = ", ".join(str(seed) for seed in sorted({run.seed for run in runs}))
    made_of = (
        f"Made from {len(runs)} result.json files: {per_dataset}. Seeds: {listed}. Devices:"
        f" {', '.join(sorted({names.literal(run.device) for run in runs}))}. Versions: {', '.join(versions)}."
    )
    blocks: list[Block] = [Heading("How to read this"), *map(Text, (*guide, made_of))]
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


def _dataset(
    report: Report, runs: Sequence[Outcome], dataset: str, prefix: str, ceiling: float | None
) -> list[Block]:
    """The sections of one dataset; one line names those that there are no runs for."""
    name = names.dataset(dataset)
    main = seeds.main_runs([run for run in runs if not run.peer])
    section = report.section(main, runs, dataset)
    shown = list(section.blocks)
    if report.in_overview:
        title = f"{name}: students and their ensemble"
        drawn = figures.overview(main, title, ceiling, report.in_overview, report.apart)
        shown.insert(0, Picture("students", drawn, _OVERVIEW))
    blocks: list[Block] = [Heading(name), Text(_described(runs[0]))]
    for block in shown:
        blocks.append(replace(block, name=prefix + block.name) if isinstance(block, Picture) else block)
    for table in (tables.summary(runs), tables.cost(runs)):
        blocks += [Heading(table.title, 3), table]
    if section.absent:
        absent = "; ".join(section.absent)
        blocks.append(Text(f"Not here, for want of runs on {names.literal(name)}: {absent}."))
    return blocks


def _described(run: Outcome) -> str:
    rows = ", ".join(f"{count:,} {split}" for split, count in run.rows.items())
    features = "" if run.features is None else f"{run.features:,} features; "
    return f"Dataset {names.code(run.dataset)}: {features}rows: {rows or 'not recorded'}."
