"""A search for the best settings of a config: trials, which are runs, in an Optuna study that workers share.

DIR/study.json says what is searched, DIR/study.journal has the trials, DIR/trials/NUMBER their runs and
DIR/finalists/NUMBER/sSEED those of the best with further seeds. Test metrics are read of one, the winner.
"""

import contextlib
import dataclasses
import fcntl
import gc
import pprint
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optuna
from optuna.storages.journal import JournalStorage
from optuna.trial import TrialState

from ektf_jax.config import Config
from ektf_jax.errors import InputError, cause
from ektf_jax.files import read_json, remove, write_json
from ektf_jax.keys import differences
from ektf_jax.result import Result, read_config
from ektf_jax.result import exists as has_result
from ektf_jax.runs import journal, sweep
from ektf_jax.runs import space as spaces
from ektf_jax.runs.space import Axis, Space
from ektf_jax.search import Finalist, SearchResult, Trial
from ektf_jax.training import build, loop, record, rundata, stopping
from ektf_jax.training.identity import identity
from ektf_jax.training.listeners import Listener, Told
from ektf_jax.training.training import Training

Train = Callable[[Config, Path, Sequence[Listener]], Mapping[str, Any]]
Report = Callable[[str], None]

_NAME = "search"  # of the study in its journal
_JOURNAL = "study.journal"
_WAIT = 1.0  # seconds between looks at what others do


@dataclass(frozen=True)
class Search:
    """A config, the space around it, and the directory with the study."""

    config: Config
    space: Space
    directory: Path
    storage: JournalStorage
    study: optuna.Study

    def name(self, number: int) -> str:
        """Where the run of a trial is, in the directory."""
        return f"trials/{number}"


def open_search(config: Config, space: Space, directory: Path) -> Search:
    """Begin a search, or go on with the one that is in the directory.

    Raises InputError for a dataset that the config cannot be trained on, where the directory has the search
    of another config, space or dataset, and for a journal that is damaged or has other trials than were run.
    """
    build.check(config)
    schema = rundata.opened(config, Path(config.data.path))[0] if config.data.path else None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    directory.mkdir(parents=True, exist_ok=True)
    with _alone(directory):
        _claim(config, space, directory)
        if schema is not None:
            record.claim_data(directory, schema, Path(config.data.path))
        storage = journal.opened(directory / _JOURNAL)
        # The same epoch of the trials that are complete is what one is compared with, from the second on: the
        # first is too early for a small learning rate.
        pruner = optuna.pruners.MedianPruner(n_warmup_steps=2)
        study = optuna.create_study(
            storage=storage, study_name=_NAME, direction="maximize", pruner=pruner, load_if_exists=True
        )
        search = Search(config, space, directory, storage, study)
        _check_trials(search)
    return search


def _check_trials(search: Search) -> None:
    """Raise InputError where the journal says otherwise what came of a trial than its run does."""
    path, remedy = search.directory / _JOURNAL, f"it is damaged: {journal.REMEDY}"
    if search.study.direction != optuna.study.StudyDirection.MAXIMIZE:
        raise InputError(f"{path}: its study does not maximize; {remedy}")
    distributions = {name: _distribution(axis) for name, axis in search.space.items()}
    for trial in search.study.get_trials(deepcopy=False):
        workdir, where = search.directory / search.name(trial.number), f"{path}: trial {trial.number}"
        if trial.distributions != distributions or trial.params.keys() != distributions.keys():
            raise InputError(f"{where} has not the settings of study.json's space; {remedy}")
        for epoch, auc in trial.intermediate_values.items():
            if not isinstance(auc, int | float) or not 0 <= auc <= 1:
                raise InputError(f"{where} has AUC {auc!r} after epoch {epoch}; {remedy}")
        if trial.state == TrialState.RUNNING or not has_result(workdir):
            continue
        if trial.state != TrialState.COMPLETE:
            raise InputError(f"{where} is {trial.state.name.lower()}, but its run has a result; {remedy}")
        result = Result.read(workdir)
        if trial.value != (auc := float(result.valid["ensemble"]["auc"])):
            raise InputError(f"{where} has AUC {trial.value}, but its run {auc}; {remedy}")
        try:
            config = spaces.varied(search.config, search.space, settings_of(search.space, trial.params))
        except InputError as error:
            raise InputError(f"{where}: {error}; {remedy}") from None
        config = sweep.located({search.name(trial.number): config}, search.name(trial.number))
        if changed := differences(identity(result.config), identity(config)):
            raise InputError(f"{where} has other settings than its run ({'; '.join(changed)}); {remedy}")


def work(search: Search, trials: int, train: Train = loop.train, *, report: Report = print) -> None:
    """Train until so many trials are complete or pruned, over all workers and calls; waits for the others.

    What a worker that was killed has begun goes on first, with the same settings. A failure is recorded in
    the trial's failure.json. Raises InputError when as many trials have failed in this call.
    """
    failed = 0
    while True:
        with contextlib.ExitStack() as held:
            with _alone(search.directory):
                number, others = _take(search, trials, held)
            if number is not None:
                reason = _try(search, number, train, report)
                failed += reason is not None
                if failed >= trials:
                    raise InputError(
                        f"{search.directory / search.name(number)}: {reason}; {failed} trials failed, as many"
                        " as --trials asks for: mend the config, or narrow the space in another --workdir"
                    )
            elif not others:
                return
        if number is None:
            time.sleep(_WAIT)


def _take(search: Search, trials: int, held: contextlib.ExitStack) -> tuple[int | None, bool]:
    """Make a trial this worker's own, and hold it; returns its number or None, and whether others run."""
    found = search.study.get_trials(deepcopy=False)
    running = [trial.number for trial in found if trial.state == TrialState.RUNNING]
    for number in running:
        if held.enter_context(sweep.claimed(search.directory / search.name(number))):
            return number, True
    finished = sum(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in found)
    if finished + len(running) >= trials:
        return None, bool(running)
    # One entry with all of its settings: a kill leaves no trial without some of them.
    search.study.add_trial(_draw(search, found))
    mine = held.enter_context(sweep.claimed(search.directory / search.name(len(found))))
    assert mine
    return len(found), True


def _draw(search: Search, found: Sequence[optuna.trial.FrozenTrial]) -> optuna.trial.FrozenTrial:
    """The next trial, which the earlier ones, the config's seed and its number decide.

    The first has the config's own settings, where the space has them: a search ends with nothing worse on
    validation data than what it started from.
    """
    seed = np.random.SeedSequence((search.config.seed, len(found))).generate_state(1)[0]
    draft = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=int(seed)))
    draft.add_trials(found)
    distributions = {name: _distribution(axis) for name, axis in search.space.items()}
    own = None if found else spaces.own(search.config, search.space)
    params = draft.ask(distributions).params if own is None else {k: spaces.label(v) for k, v in own.items()}
    return optuna.trial.create_trial(state=TrialState.RUNNING, params=params, distributions=distributions)


def _distribution(axis: Axis) -> optuna.distributions.BaseDistribution:
    if axis.choices:
        return optuna.distributions.CategoricalDistribution([spaces.label(value) for value in axis.choices])
    if isinstance(axis.low, int) and isinstance(axis.high, int) and isinstance(axis.step or 1, int):
        step = 1 if axis.step is None else int(axis.step)
        return optuna.distributions.IntDistribution(axis.low, axis.high, log=axis.log, step=step)
    return optuna.distributions.FloatDistribution(axis.low, axis.high, log=axis.log, step=axis.step)


def _try(search: Search, number: int, train: Train, report: Report) -> str | None:
    """Train a trial and tell the study what came of it; returns why it failed, or None."""
    began, workdir = time.time(), search.directory / search.name(number)
    settings = settings_of(search.space, search.study.get_trials(deepcopy=False)[number].params)
    report(f"trial {number}: " + ", ".join(f"{key} = {value}" for key, value in settings.items()))
    remove(workdir / "failure.json")  # of a try that was killed before the study knew
    reason, auc, state = None, None, TrialState.COMPLETE
    try:
        config = spaces.varied(search.config, search.space, settings)
        config = sweep.located({search.name(number): config}, search.name(number))
        auc = float(train(config, workdir, [_Reporter(search, number)])["valid"]["ensemble"]["auc"])
    except optuna.TrialPruned:
        state = TrialState.PRUNED
    except (stopping.Stopped, OSError):  # it goes on when the command is started again
        raise
    except Exception as error:
        state, reason = TrialState.FAIL, cause(error)
        failure = {"reason": reason, "seconds": time.time() - began, "traceback": traceback.format_exc()}
        write_json(workdir / "failure.json", failure)
    finally:
        _forget()
    with _alone(search.directory):
        search.study.tell(number, auc, state=state)
    said = f"failed: {reason}" if reason is not None else "pruned" if auc is None else f"valid AUC {auc:.6f}"
    report(f"trial {number}: {said}")
    return reason


def _forget() -> None:
    """Drop what a run leaves: its programs, and weights in cycles, which may lie on a device."""
    jax.clear_caches()
    gc.collect()


class _Reporter(Listener):
    """Tells the study the AUC of each epoch, and ends a trial that it prunes."""

    def __init__(self, search: Search, number: int):
        self._search, self._number = search, number
        study = search.storage.get_study_id_from_name(_NAME)
        self._id = search.storage.get_trial_id_from_study_id_trial_number(study, number)

    def evaluated(self, run: Training, terms: Told, valid: Told, use: Told) -> None:
        storage, study = self._search.storage, self._search.study
        storage.set_trial_intermediate_value(self._id, run.epoch, float(valid["ensemble"]["auc"]))
        if study.pruner.prune(study, storage.get_trial(self._id)):
            raise optuna.TrialPruned


def settings_of(space: Space, params: Mapping[str, Any]) -> dict[str, Any]:
    """The values of axes, of what Optuna has for them, in the order of the space."""
    found = {}
    for name, axis in space.items():
        value = params[name]
        if axis.choices:
            value = {spaces.label(choice): choice for choice in axis.choices}[value]
        elif axis.step is not None and isinstance(value, float):
            value = float(f"{value:.12g}")  # 0.3, where adding steps made 0.30000000000000004
        found[name] = value
    return found


def trials_of(search: Search) -> list[Trial]:
    """All trials by number."""
    return [
        Trial(
            one.number,
            one.state.name.lower(),
            one.value
            if one.state == TrialState.COMPLETE
            else max(one.intermediate_values.values(), default=None),
            settings_of(search.space, one.params),
            dict(sorted(one.intermediate_values.items())),
        )
        for one in search.study.get_trials(deepcopy=False)
    ]


def ranked(trials: Sequence[Trial]) -> list[Trial]:
    """The complete trials, the best first, of equals the earlier. InputError where none is complete."""
    complete = [trial for trial in trials if trial.state == "complete" and trial.auc is not None]
    if not complete:
        raise InputError(f"none of {len(trials)} trials is complete; raise --trials")
    return sorted(complete, key=lambda trial: (-(trial.auc or 0.0), trial.number))


def finals(
    search: Search, finalists: int, seeds: int, train: Train = loop.train, *, report: Report = print
) -> list[Finalist]:
    """Train the best trials with further seeds; returns them by their mean AUC on validation data.

    A trial's own run is that of the config's seed. One of which a run fails is no finalist. Raises InputError
    where none is left.
    """
    best = ranked(trials_of(search))[:finalists]
    first = search.config.seed
    runs = {
        f"finalists/{trial.number}/s{seed}": dataclasses.replace(
            spaces.varied(search.config, search.space, trial.settings), seed=seed
        )
        for trial in best
        for seed in range(first + 1, first + seeds)
    }

    def train_run(name: str) -> str | None:
        try:
            train(sweep.located(runs, name), search.directory / name, [])
        except (stopping.Stopped, OSError):
            raise
        except Exception as error:
            return cause(error)
        finally:
            _forget()
        return None

    failed: list[str] = []
    while left := {n: run for n, run in runs.items() if not has_result(search.directory / n)}:
        failed += sweep.work(
            {n: c for n, c in left.items() if n not in failed}, search.directory, train_run, report=report
        )
        if left.keys() <= set(failed):
            break
        time.sleep(_WAIT)  # another worker is at them
    found = []
    for trial in best:
        assert trial.auc is not None
        names = {seed: f"finalists/{trial.number}/s{seed}" for seed in range(first + 1, first + seeds)}
        if not set(failed) & set(names.values()):
            aucs = {seed: _valid_auc(search.directory / name) for seed, name in names.items()}
            found.append(
                Finalist(
                    trial.number,
                    trial.settings,
                    {first: trial.auc} | aucs,
                    {first: search.name(trial.number)} | names,
                )
            )
    if not found:
        raise InputError(
            f"{search.directory / failed[0]}: failed, as a run of every finalist; see failure.json"
        )
    return sorted(found, key=lambda one: (-one.mean, one.number))


def _valid_auc(workdir: Path) -> float:
    return float(Result.read(workdir).valid["ensemble"]["auc"])


def metrics_on_test(search: Search, winner: Finalist) -> dict[int, Mapping[str, float]]:
    """The ensemble's metrics on test data by seed: of the winner, when there is one."""
    return {seed: Result.read(search.directory / name).test["ensemble"] for seed, name in winner.runs.items()}


def importances(search: Search) -> dict[str, float]:
    """How much of what the complete trials reach each axis explains, by PED-ANOVA; {} of fewer than two."""
    if len([t for t in search.study.get_trials(deepcopy=False) if t.state == TrialState.COMPLETE]) < 2:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that trials are few, which the page shows
        return optuna.importance.get_param_importances(search.study)


def result_of(search: Search, finalists: Sequence[Finalist]) -> SearchResult:
    """Return what came of a search, for search.json and for its page."""
    trials, own = trials_of(search), spaces.own(search.config, search.space)
    number = next((trial.number for trial in trials if trial.settings == own), None)
    return SearchResult(search.config, number, trials, importances(search), finalists)


def config_file(config: Config, about: str) -> str:
    """A config file, Python, for `ektf train`; `about` is its docstring."""
    nested = pprint.pformat(config.to_dict(), sort_dicts=False, width=104)
    return f'"""{about}"""\n\n\ndef get_config():\n    return {nested.replace(chr(10), chr(10) + " " * 11)}\n'


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Keeps other workers from taking and telling trials; ends with the process, however it ends."""
    with (directory / ".study.lock").open("w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _claim(config: Config, space: Space, directory: Path) -> None:
    """Record what a directory searches, or raise InputError, naming keys and values, where it is another."""
    path, axes = directory / "study.json", {name: axis.to_json() for name, axis in space.items()}
    if not path.exists():
        students = record.students_in_full(config)
        write_json(path, {"config": config.to_dict(), "students": students, "space": axes})
        return
    there = read_json(path, {"config": dict, "students": dict, "space": dict})
    before = identity(read_config(there["config"], path), students=there["students"])
    now = identity(config, students=record.students_in_full(config))
    changed = differences(before, now)
    changed += [f"space: {text}" for text in differences(there["space"], axes)]
    if changed:
        raise InputError(f"{directory} has another search ({'; '.join(changed)}); choose another --workdir")
