"""Runs of one recipe by K, and what two recipes differ in."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ektf_jax.report.results import Outcome
from ektf_jax.report.seeds import Group, groups, mean, p_value

# What changes with K or is not the recipe's.
_APART = ("ensemble.num_students", "encoding", "rows")
# What two recipes may differ in, by the first key that a difference begins with.
_THINGS = (
    ("transfer.self", "self-transfer"),
    ("transfer.", "loss"),
    ("embedding.sharing", "table"),
    ("embedding.", "embedding"),
    ("ensemble.members", "members"),
    ("ensemble.students.", "students"),
    ("train.ema", "average of weights"),
    ("train.", "training"),
)

Value = Callable[[Outcome], float]


def ensemble_auc(run: Outcome) -> float:
    return run.ensemble.auc


def student_auc(run: Outcome) -> float:
    """Of the student that validation chooses."""
    return run.best_student.auc


def valid_auc(run: Outcome) -> float:
    return run.valid.auc


def ambiguity(run: Outcome) -> float:
    return run.diversity.get("ambiguity", float("nan"))


def error_correlation(run: Outcome) -> float:
    return run.diversity.get("error_correlation", float("nan"))


@dataclass(frozen=True)
class Curve:
    """Runs of one recipe: those of each K, all without variants."""

    label: str
    groups: Mapping[int, Group]

    @property
    def kinds(self) -> tuple[str, ...]:
        """The distinct models of its students."""
        return tuple(dict.fromkeys(self._ensembles[0].runs[0].kinds))

    @property
    def ends(self) -> tuple[int, int]:
        """The smallest K that is an ensemble, and the largest."""
        sizes = [size for size in self.groups if size > 1]
        return min(sizes), max(sizes)

    def over(self, value: Value) -> dict[int, tuple[float, ...]]:
        """A value of each run, by K."""
        return {size: group.over(value) for size, group in self.groups.items()}

    def rise(self, value: Value) -> tuple[float, float]:
        """How far the mean rises from one end to the other, and p of Welch's test that it does not."""
        low, high = (self.groups[size].over(value) for size in self.ends)
        return mean(high) - mean(low), p_value(high, low)

    @property
    def best_valid_auc(self) -> float:
        """Mean validation AUC of its largest ensemble, by which recipes are chosen."""
        return mean(self.groups[self.ends[1]].over(valid_auc))

    @cached_property
    def recipe(self) -> Mapping[str, Any]:
        """Its settings, but for K."""
        run = self._ensembles[0].runs[0]
        return {key: value for key, value in run.settings.items() if key not in _APART}

    @property
    def _ensembles(self) -> list[Group]:
        return [group for size, group in sorted(self.groups.items()) if size > 1]


def curves(runs: Sequence[Outcome]) -> list[Curve]:
    """The recipes of a dataset's runs (`seeds.main_runs`) with two or more Ks, in the order of the runs.

    A model that was trained alone is K = 1 of every recipe of copies of it that it differs from by what one
    student has no use for alone.
    """
    found: dict[str, dict[int, Group]] = {}
    alone: list[Group] = []
    for group in groups(runs):
        if group.runs[0].alone:
            alone.append(group)
        elif group.num_students > 1:
            found.setdefault(group.label, {})[group.num_students] = group
    made = [Curve(label, dict(sorted(by_size.items()))) for label, by_size in found.items()]
    with_one = [_with_one(curve, alone) for curve in made]
    return [curve for curve in with_one if len([size for size in curve.groups if size > 1]) > 1]


def differences(one: Curve, other: Curve) -> list[str]:
    """What two recipes differ in, in words: "loss", "table"; once each."""
    ours, theirs = one.recipe, other.recipe
    absent = object()
    changed = [key for key in ours.keys() | theirs.keys() if ours.get(key, absent) != theirs.get(key, absent)]
    return sorted({_thing(key) for key in changed})


def pairs(of: Sequence[Curve]) -> list[tuple[str, Curve, Curve]]:
    """Every two recipes over the same students that differ in one thing, and the thing."""
    return [
        (changed[0], one, other)
        for i, one in enumerate(of)
        for other in of[i + 1 :]
        if len(changed := differences(one, other)) == 1 and changed != ["students"]
    ]


def _with_one(curve: Curve, alone: Sequence[Group]) -> Curve:
    mine = {key: value for key, value in curve.recipe.items() if not _idle(key)}
    for group in alone:
        theirs = {key: value for key, value in group.runs[0].settings.items() if not _idle(key)}
        if mine == {key: value for key, value in theirs.items() if key not in _APART}:
            return Curve(curve.label, {1: group, **curve.groups})
    return curve


def _idle(key: str) -> bool:
    """Whether a setting changes nothing for one student without peers."""
    return key in ("embedding.sharing", "ensemble.fusion") or (
        _thing(key) == "loss" and key != "transfer.teachers"
    )


def _thing(key: str) -> str:
    return next((thing for start, thing in _THINGS if key.startswith(start)), key)
