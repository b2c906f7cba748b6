"""A page that sets searches for settings side by side, from their search.json files."""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ektf_jax.errors import InputError
from ektf_jax.report import names, render, results, web
from ektf_jax.report.names import Names
from ektf_jax.report.render import Block, Heading, Text
from ektf_jax.report.results import Outcome
from ektf_jax.report.seeds import mean
from ektf_jax.report.tables import MISSING, Cell, Table, digits_of, ranked, row, shown, spread
from ektf_jax.search import NAME, SearchResult

_GUIDE = (
    "Each row is a search for the settings of one model. A pruned trial was ended early, below the median."
    " Trials and winners were chosen by the ensemble's AUC on validation data, and rows are ranked by the"
    " winner's. Test data chose nothing. ± is the deviation over the winner's seeds.",
    "Before is the run with the config's own settings, a trial like the others. Where searches have different"
    " numbers of trials or axes they are no equal chances.",
)


class _Row(NamedTuple):
    """A search, the runs of its winner by seed, and the one with the config's own settings, if any."""

    found: SearchResult
    winner: tuple[Outcome, ...]
    own: Outcome | None

    @property
    def valid(self) -> float:
        return mean([run.valid.auc for run in self.winner])


def write(source: Path, out: Path, called: Names, *, title: str) -> str:
    """Write report.md and report.html of all searches below `source`; returns its tables as Markdown.

    `called` is what models and methods are. The result.json of a winner's runs must be there, and that of the
    run with the config's own settings should be; of other trials search.json has all that is needed. Raises
    InputError for what is missing.
    """
    rows = _read(source, called)
    blocks: list[Block] = [Heading("How to read this"), *map(Text, _GUIDE)]
    compared = []
    for dataset in sorted({one.winner[0].dataset for one in rows}):
        of_it = sorted((one for one in rows if one.winner[0].dataset == dataset), key=lambda one: -one.valid)
        compared.append(_compared(dataset, of_it))
        blocks += [Heading(names.dataset(dataset)), compared[-1], Heading("What won", 3), _settings(of_it)]
    web.write(out, "report", title, blocks)
    return "\n\n".join(map(render.markdown_table, compared)) + "\n"


def _read(source: Path, called: Names) -> list[_Row]:
    paths = sorted(source.rglob(NAME))
    if not paths:
        raise InputError(f"{source}: no {NAME} below it; search with `ektf tune` first")
    broken: list[str] = []
    runs = {run.path: run for run in results.load(source, broken.append, called)}
    return [_row(source, path.parent, runs, broken) for path in paths]


def _row(source: Path, directory: Path, runs: Mapping[str, Outcome], broken: Sequence[str]) -> _Row:
    """`broken` is what is wrong with runs that are not among `runs`: of most trials nothing is read."""
    found, place = SearchResult.read(directory), PurePosixPath(directory.relative_to(source))
    winner = [runs.get(str(place / name)) for name in found.winner.runs.values()]
    for name, run in zip(found.winner.runs.values(), winner, strict=True):
        if run is None:
            missing = f"{directory / name}: has no result.json, and is a run of the winner; restore it"
            of_it = (said for said in broken if said.startswith(f"{directory / name}/"))
            raise InputError(next(of_it, missing))
    own = None if found.own is None else runs.get(str(place / "trials" / str(found.own)))
    return _Row(found, tuple(run for run in winner if run is not None), own)


def _compared(dataset: str, rows: Sequence[_Row]) -> Table:
    ranks = ranked([round(one.valid, 4) for one in rows], highest=True)
    digits = digits_of([run.ensemble.logloss for one in rows for run in one.winner])
    cells = []
    for one, rank in zip(rows, ranks, strict=True):
        states = [trial.state for trial in one.found.trials]
        before = (MISSING, MISSING)
        if one.own is not None:
            before = f"{one.own.valid.auc:.4f}", f"{one.own.ensemble.auc:.4f}"
        cells.append(
            (
                *row(one.winner[0].label, str(one.winner[0].num_students)),
                *row(f"{states.count('complete')} + {states.count('pruned')}", str(len(one.winner))),
                *row(f"{one.winner[0].parameters:,}", before[0]),
                Cell(spread([run.valid.auc for run in one.winner], 4), rank),
                Cell(before[1]),
                Cell(spread([run.ensemble.auc for run in one.winner], 4)),
                Cell(f"{mean([run.ensemble.logloss for run in one.winner]):.{digits}f}"),
            )
        )
    header = (
        *("model", "K", "trials, complete + pruned", "seeds", "parameters"),
        *("validation AUC before", "validation AUC", "test AUC before", "test AUC", "test logloss"),
    )
    return Table(f"Searches on {names.dataset(dataset)}", header, tuple(cells))


def _settings(rows: Sequence[_Row]) -> Table:
    """Each setting of each winner beside the config's own."""
    cells = []
    for one in rows:
        own = {} if one.found.own is None else one.found.trials[one.found.own].settings
        for name, value in one.found.winner.settings.items():
            cells.append(
                row(one.winner[0].label, name, shown(own[name]) if name in own else MISSING, shown(value))
            )
    return Table("What won", ("model", "setting", "before", "the winner's"), tuple(cells))
