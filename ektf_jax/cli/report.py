"""Tables and figures of finished runs: `ektf report --results=DIR --out=DIR`."""

from absl import flags

from ektf_jax.cli import shell
from ektf_jax.report.paper import page

_RESULTS = flags.DEFINE_string("results", None, "A directory with result.json files below it.", required=True)
_OUT = flags.DEFINE_string("out", None, "Where the pages and the figures go.", required=True)
_TITLE = flags.DEFINE_string("title", "Ensemble knowledge transfer: results", "The page's title.")


def main(argv: list[str]) -> None:
    """Write report.md, report.html and the figures; print the table of all runs."""
    del argv
    print(page.write(shell.path(_RESULTS), shell.path(_OUT), title=_TITLE.value))
