"""Which runs are which of the paper's models."""

from collections.abc import Callable, Sequence
from typing import Any

from ektf_jax.report.results import Outcome

Is = Callable[[Outcome], bool]

# The students of EKTF_Latest, sorted.
LATEST = ("ecn", "final1b", "pnn")
# The numbers of students that configs/section4.py plans.
SIZES = (1, 2, 3, 4, 5, 6, 10)


def alone(kind: str) -> Is:
    """A model trained by itself."""
    return lambda run: run.alone and run.plain and run.kinds == (kind,)


def of_mlps(run: Outcome) -> bool:
    return set(run.kinds) == {"mlp"}


def of(*kinds: str) -> Is:
    """Exactly these students, in any order."""
    return lambda run: sorted(run.kinds) == sorted(kinds)


def sized(num_students: int) -> Is:
    return lambda run: run.num_students == num_students


def method(name: str, fusion: str = "mean", **options: Any) -> Is:
    """An ensemble over one table by a transfer method with these options, whatever its others are."""
    return lambda run: (
        not run.alone
        and run.shares
        and (run.method, run.fusion) == (name, fusion)
        and all(run.options.get(key) == value for key, value in options.items())
    )


def ektf(kd: bool = True, dml: bool = True, examination: bool = True) -> Is:
    """EKTF (Eq. 6), or its ablation without some of its parts."""
    wanted = {"kd": kd, "dml": dml, "examination": examination}
    is_ektf = method("ektf")
    return lambda run: is_ektf(run) and all(run.options.get(key, True) == wanted[key] for key in wanted)


def both(*conditions: Is) -> Is:
    return lambda run: all(condition(run) for condition in conditions)


def sizes(runs: Sequence[Outcome]) -> list[int]:
    """The planned numbers of students and those that are there, without the model alone."""
    return sorted((set(SIZES) | {run.num_students for run in runs}) - {1})


def in_overview(run: Outcome) -> bool:
    """The single MLP, plain mean ensembles of MLPs, EKTF_MLP."""
    return alone("mlp")(run) or (of_mlps(run) and (method("none")(run) or ektf()(run)))
