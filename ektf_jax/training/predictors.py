"""A run's predictors by name: the ensemble, its students, the best of these."""

from collections.abc import Mapping
from typing import Any

from ektf_jax.errors import unknown

ENSEMBLE, BEST = "ensemble", "best"


def find(what: str, name: str, result: Mapping[str, Any]) -> int | None:
    """The number of the student that a name means in a run's result; None for the ensemble.

    "best" is the student with the best AUC on the validation split. Raises InputError, in which `what` names
    what was given, for a predictor that the run does not have.
    """
    students = result["valid"]["students"]
    if name == ENSEMBLE:
        return None
    if name == BEST and students:
        return max(range(len(students)), key=lambda k: students[k]["auc"])
    names = [str(k) for k in range(len(students))]
    if name not in names:
        raise unknown(what, name, [ENSEMBLE, *([BEST] if students else []), *names])
    return int(name)
