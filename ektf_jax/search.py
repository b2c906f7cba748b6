"""search.json, what came of a search for settings: read and written here alone. Needs no JAX, nor Optuna."""

import dataclasses
import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ektf_jax.config import Config
from ektf_jax.errors import InputError
from ektf_jax.files import read_json, write_json
from ektf_jax.result import read_config

NAME = "search.json"
FORMAT = 1

_REMEDY = "the command of the search, `ektf tune`, writes it anew"

STATES = ("complete", "pruned", "fail", "running")
_TRIAL = {"number": int, "state": str, "auc": int | float | None, "settings": dict, "by_epoch": dict}
_FINALIST = {"number": int, "settings": dict, "aucs": dict, "runs": dict}
_SHAPE: dict[str, Any] = {
    "format": int,
    "config": dict,
    "own": int | None,
    "trials": [_TRIAL],
    "importances": dict,
    "finalists": [_FINALIST],
}


@dataclass(frozen=True)
class Trial:
    """What the study has of a trial. `auc` is the ensemble's on validation data, of the epoch that it kept.

    `state` is "complete", "pruned", "fail" or "running"; where it is not complete, `auc` is the best so far
    or None. `by_epoch` has all of them. `settings` are by the names of the axes.
    """

    number: int
    state: str
    auc: float | None
    settings: Mapping[str, Any]
    by_epoch: Mapping[int, float]


@dataclass(frozen=True)
class Finalist:
    """A trial with its AUC on validation data by seed, and where the run of each is in the directory."""

    number: int
    settings: Mapping[str, Any]
    aucs: Mapping[int, float]
    runs: Mapping[int, str]

    @property
    def mean(self) -> float:
        return sum(self.aucs.values()) / len(self.aucs)


@dataclass(frozen=True)
class SearchResult:
    """A finished search of `config`. `own` is the number of the trial with the config's settings, or None.

    `finalists` begin with the winner. `importances` are by the names of the axes, {} of too few trials.
    """

    config: Config
    own: int | None
    trials: Sequence[Trial]
    importances: Mapping[str, float]
    finalists: Sequence[Finalist]

    @property
    def winner(self) -> Finalist:
        return self.finalists[0]

    def write(self, directory: Path) -> None:
        """Write search.json to the directory of the search."""
        parts = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        for name in ("trials", "finalists"):
            parts[name] = [dataclasses.asdict(one) for one in parts[name]]
        write_json(directory / NAME, {"format": FORMAT, **parts, "config": self.config.to_dict()})

    @classmethod
    def read(cls, directory: Path) -> "SearchResult":
        """Read the search of a directory; InputError where there is none, or it is something else."""
        path = directory / NAME
        document = read_json(path, _SHAPE)
        if document["format"] > FORMAT:
            raise InputError(
                f"{path}: format = {document['format']} is of a newer version, this one reads up to {FORMAT}"
            )
        try:
            trials = [
                Trial(
                    one["number"],
                    one["state"],
                    None if one["auc"] is None else _share(one["auc"]),
                    one["settings"],
                    _by_number(one["by_epoch"], _share),
                )
                for one in document["trials"]
            ]
            finalists = [
                Finalist(
                    one["number"],
                    one["settings"],
                    _by_number(one["aucs"], _share),
                    _by_number(one["runs"], _text),
                )
                for one in document["finalists"]
            ]
            importances = {name: _share(value) for name, value in document["importances"].items()}
            _check(document["own"], trials, finalists)
        except (TypeError, ValueError) as error:
            raise InputError(f"{path}: {error}; {_REMEDY}") from None
        if not trials or not finalists or not all(one.aucs.keys() == one.runs.keys() for one in finalists):
            raise InputError(f"{path}: has no trial, no finalist or none of its runs; {_REMEDY}")
        config = read_config(document["config"], path)
        return cls(config, document["own"], trials, importances, finalists)


def _by_number(given: Mapping[str, Any], kind: Callable[[Any], Any]) -> dict[int, Any]:
    return {int(key): kind(value) for key, value in given.items()}


def _share(value: Any) -> float:
    """A number from 0 to 1, such as an AUC."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:
        raise ValueError(f"{reprlib.repr(value)} is no number from 0 to 1")
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{reprlib.repr(value)} is no text")
    return value


def _check(own: int | None, trials: Sequence[Trial], finalists: Sequence[Finalist]) -> None:
    """Raise ValueError, naming the key, where the parts of a search say different things."""
    for at, trial in enumerate(trials):
        where = f"trials[{at}]"
        if trial.number != at:
            raise ValueError(f"{where}.number is {trial.number}, not {at}")
        if trial.state not in STATES:
            raise ValueError(f"{where}.state is {trial.state!r}, none of {', '.join(STATES)}")
        if trial.auc is None and trial.state == "complete":
            raise ValueError(f"{where} is complete without an auc")
        if trial.settings.keys() != trials[0].settings.keys():
            raise ValueError(f"{where}.settings has {_names(trial)}, and trials[0] {_names(trials[0])}")
    if own is not None and not 0 <= own < len(trials):
        raise ValueError(f"own is {own}, no number of its {len(trials)} trials")
    for at, one in enumerate(finalists):
        if not 0 <= one.number < len(trials):
            raise ValueError(f"finalists[{at}].number is {one.number}, that of none of {len(trials)} trials")
        if one.settings != (there := trials[one.number].settings):
            raise ValueError(f"finalists[{at}].settings is {one.settings}, and that of its trial {there}")


def _names(trial: Trial) -> str:
    return ", ".join(trial.settings) or "none"
