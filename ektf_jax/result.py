"""result.json, what came of a run: read, checked and written here alone. Needs no JAX."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ektf_jax.config import Config
from ektf_jax.errors import InputError, unknown
from ektf_jax.files import read_json, write_json

NAME = "result.json"
# 1, of files that do not say it: compilation counts in their rows per second.
FORMAT = 2

ENSEMBLE, BEST = "ensemble", "best"  # predictors by name, beside the numbers of students

_METRICS = {"auc": int | float, "logloss": int | float}
SPLIT = {"ensemble": _METRICS, "students": [_METRICS]}  # its shape, see `files.check_shape`
_SHAPE: dict[str, Any] = {"config": dict, "best_epoch": int, "valid": SPLIT, "test": SPLIT}


@dataclass(frozen=True)
class Result:
    """What came of a finished run.

    `valid` and `test` are {"ensemble": {metric: value}, "students": [{metric: value}, ...]}, of the best
    epoch; a concat ensemble has no students there. `students` are the arguments of each kind in full, by
    label, None where the file is too old to say. `document` is all that the file has.
    """

    path: Path
    config: Config
    best_epoch: int
    valid: Mapping[str, Any]
    test: Mapping[str, Any]
    students: Mapping[str, Any] | None
    document: Mapping[str, Any]

    @classmethod
    def read(cls, workdir: str | Path) -> "Result":
        """Read the result of a finished run; InputError where there is none, or it is something else."""
        path = Path(workdir) / NAME
        if not path.exists():
            raise InputError(f"{path}: missing; train with `ektf train --workdir={workdir}` first")
        document = read_json(path, _SHAPE)
        if not isinstance(written := document.get("format", 1), int) or written > FORMAT:
            raise InputError(
                f"{path}: format = {written!r} is of a newer version, this one reads up to {FORMAT}"
            )
        return cls(
            path,
            read_config(document["config"], path),
            document["best_epoch"],
            document["valid"],
            document["test"],
            document.get("students"),
            document,
        )

    @property
    def labels(self) -> list[str]:
        """For each student of `valid` and `test` its label in the config."""
        return self.config.ensemble.labels[: len(self.test["students"])]

    def find(self, what: str, name: str) -> int | None:
        """Return the number of the student that a name means, "best" or "0" and so on; None for "ensemble".

        Raises InputError, in which `what` names what was given, for a predictor that the run does not have.
        """
        if name == ENSEMBLE:
            return None
        students = [str(k) for k in range(len(self.valid["students"]))]
        if name == BEST and students:
            return self.best_student
        if name not in students:
            raise unknown(what, name, [ENSEMBLE, *([BEST] if students else []), *students])
        return int(name)

    @property
    def best_student(self) -> int:
        """The student with the best AUC on validation data. InputError where there are none."""
        aucs = [student["auc"] for student in self.valid["students"]]
        if not aucs:
            raise InputError(
                f"{self.path}: its students have no predictions of their own, as it fuses by concat"
            )
        return max(range(len(aucs)), key=aucs.__getitem__)


def exists(workdir: Path) -> bool:
    """Whether there is a result in a working directory."""
    return (workdir / NAME).exists()


def write(workdir: Path, document: Mapping[str, Any]) -> None:
    """Write the result of a run, whole or not at all."""
    write_json(workdir / NAME, document)


def read_config(values: Any, path: Path) -> Config:
    """Read the config that a file of a run has; InputError, naming the file, where it is none."""
    try:
        return Config.from_dict(values)
    except InputError as error:
        raise InputError(
            f"{path}: {error}; use the code of then, or train again in another --workdir"
        ) from None
