"""The report: a Markdown page with its table and figure."""

from pathlib import Path

from ektf_jax.report import figures, results


def write(source: Path, out: Path, *, title: str, ceiling: float | None = None) -> str:
    """Write the report of all runs below `source`; returns its table."""
    runs = results.load(source)
    out.mkdir(parents=True, exist_ok=True)
    figures.save(figures.students_and_ensemble(runs, title, ceiling), out / "students")
    table = results.table(runs)
    beside_paper = "".join(
        f"\n## Table 2 on {dataset}\n\n{rows}"
        for dataset in sorted({run.dataset for run in runs})
        if (rows := results.table_2(runs, dataset))
    )
    (out / "report.md").write_text(
        f"# {title}\n\nTest metrics at the epoch of the best validation AUC of the ensemble; AUC is ± the"
        f" standard deviation over\nseeds, *lead* is the ensemble's over its best student.\n\n{table}\n"
        f"![Test AUC of every student and of the ensemble](students.png)\n{beside_paper}"
    )
    return table
