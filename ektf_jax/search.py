"""search.json, what came of a search for settings: read and written here alone. Needs no JAX, nor Optuna."""

import dataclasses
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
                    one["auc"],
                    one["settings"],
                    _by_number(one["by_epoch"], float),
                )
                for one in document["trials"]
            ]
            finalists = [
                Finalist(
                    one["number"],
                    one["settings"],
                    _by_number(one["aucs"], float),
                    _by_number(one["runs"], str),
                )
                for one in document["finalists"]
            ]
        except (TypeError, ValueError) as error:
            raise InputError(f"{path}: {error}; {_REMEDY}") from None
        if not trials or not finalists or not all(one.aucs.keys() == one.runs.keys() for one in finalists):
            raise InputError(f"{path}: has no trial, no finalist or none of its runs; {_REMEDY}")
        config = read_config(document["config"], path)
        return cls(config, document["own"], trials, document["importances"], finalists)


def _by_number(given: Mapping[str, Any], kind: Callable[[Any], Any]) -> dict[int, Any]:
    return {int(key): kind(value) for key, value in given.items()}
