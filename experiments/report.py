"""Tables and figures of finished runs: python -m experiments.report --results=DIR --out=DIR."""

from pathlib import Path

from absl import flags

from ektf_jax.report import figures, results
from experiments import cli

_RESULTS = flags.DEFINE_string("results", None, "A directory with result.json files below it.", required=True)
_OUT = flags.DEFINE_string("out", None, "Where report.md and the figures go.", required=True)


def main(argv: list[str]) -> None:
    """Write report.md, students.png and students.svg; print the table."""
    del argv
    print(write(Path(_RESULTS.value), Path(_OUT.value), title="Students and their ensemble"))


def write(source: Path, out: Path, *, title: str, ceiling: float | None = None) -> str:
    """Write the report of all runs below `source`; returns its table."""
    runs = results.load(source)
    out.mkdir(parents=True, exist_ok=True)
    figures.save(figures.students_and_ensemble(runs, title, ceiling), out / "students")
    table = results.table(runs)
    (out / "report.md").write_text(
        f"# {title}\n\nTest metrics at the epoch of the best validation AUC of the ensemble; AUC is ± the"
        f" standard deviation over\nseeds, *lead* is the ensemble's over its best student.\n\n{table}\n"
        f"![Test AUC of every student and of the ensemble](students.png)\n"
    )
    return table


if __name__ == "__main__":
    cli.run(main)
