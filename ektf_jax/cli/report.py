"""Tables and figures: of finished runs or searches, `ektf report --results=DIR --out=DIR [--about=scaling]`,
or of one run, `ektf report --run=WORKDIR --out=DIR`.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from absl import flags

from ektf_jax.cli import shell
from ektf_jax.errors import InputError

_RESULTS = flags.DEFINE_string("results", None, "A directory with finished runs, or searches, below it.")
_RUN = flags.DEFINE_string("run", None, "The working directory of a finished run: a page about it alone.")
_DATA = flags.DEFINE_string("data", None, "With --run: where its dataset is now, if it was moved.")
_OUT = flags.DEFINE_string("out", None, "Where the pages and the figures go.", required=True)
_ABOUT = flags.DEFINE_enum(
    "about",
    "paper",
    ["paper", "scaling", "searches"],
    "paper: the paper's findings, tables and figures. scaling: what grows with K, why, and what it costs."
    " searches: what searches for settings found, side by side.",
)
_TITLE = flags.DEFINE_string("title", None, "The page's title.")

_SHUFFLES = 3  # of each field


def main(argv: list[str]) -> None:
    """Write the page as Markdown and HTML, and its figures; print its table of all runs, or of predictors."""
    del argv
    out = shell.path(_OUT)
    if (_RESULTS.value is None) == (_RUN.value is None):
        raise InputError("name either --results=DIR, runs to compare, or --run=WORKDIR, one run")
    if _RUN.value is not None and flags.FLAGS["about"].present:
        raise InputError(f"--about={_ABOUT.value} is of --results, not of --run; leave it out")
    if _RUN.value is None and _DATA.value is not None:
        raise InputError(f"--data={_DATA.value} is of --run, not of --results; leave it out")
    if _RUN.value is not None:
        data = None if _DATA.value is None else shell.path(_DATA)
        print(_one(shell.path(_RUN), data, out))
        return
    from ektf_jax.report import searches
    from ektf_jax.report.paper import page as paper
    from ektf_jax.report.paper.names import NAMES
    from ektf_jax.report.scaling import page as scaling

    title = _TITLE.value or "Ensemble knowledge transfer: results"
    writers: dict[str, Callable[..., str]] = {
        "paper": paper.write,
        "scaling": partial(scaling.write, called=NAMES),
        "searches": partial(searches.write, called=NAMES),
    }
    print(writers[_ABOUT.value](shell.path(_RESULTS), out, title=title))


def _one(workdir: Path, data: Path | None, out: Path) -> str:
    """The page of a run; without its dataset, of what the run says of itself."""
    from ektf_jax.report import run_page  # these take seconds, which a page of many runs has not
    from ektf_jax.runs import judge, load_run
    from ektf_jax.runs.importance import permutation_importance

    run = load_run(workdir, data)
    epochs = run_page.read_epochs(workdir / "metrics.jsonl")
    about = run_page.About(run.result, epochs)
    if run.has_splits:
        predictions = judge.shown(run, judge.predictions(run, "test"))
        found = permutation_importance(run, repeats=_SHUFFLES)
        importance = {one.field: one.losses[:, -1].tolist() for one in found}
        about = run_page.About(run.result, epochs, predictions, importance)
    return run_page.write(about, out, _TITLE.value or f"Run {workdir.resolve().name}")
