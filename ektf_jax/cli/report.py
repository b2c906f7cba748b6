"""Tables and figures of finished runs: `ektf report --results=DIR --out=DIR [--about=scaling]`."""

from absl import flags

from ektf_jax.cli import shell
from ektf_jax.report.paper import page as paper
from ektf_jax.report.scaling import page as scaling

_RESULTS = flags.DEFINE_string("results", None, "A directory with result.json files below it.", required=True)
_OUT = flags.DEFINE_string("out", None, "Where the pages and the figures go.", required=True)
_ABOUT = flags.DEFINE_enum(
    "about",
    "paper",
    ["paper", "scaling"],
    "paper: the paper's findings, tables and figures. scaling: what grows with K, why, and what it costs.",
)
_TITLE = flags.DEFINE_string("title", "Ensemble knowledge transfer: results", "The page's title.")


def main(argv: list[str]) -> None:
    """Write report.md, report.html and the figures; print the table of all runs."""
    del argv
    pages = {"paper": paper.write, "scaling": scaling.write}
    print(pages[_ABOUT.value](shell.path(_RESULTS), shell.path(_OUT), title=_TITLE.value))
