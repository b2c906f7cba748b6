"""Runs that differ in their seed only, and what can be said over seeds."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from ektf_jax.report.results import Outcome


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed only; `variant` says what sets them apart from runs of the same name."""

    runs: tuple[Outcome, ...]
    variant: str = ""

    @property
    def label(self) -> str:
        return self.runs[0].label + (f" [{self.variant}]" if self.variant else "")

    @property
    def num_students(self) -> int:
        return self.runs[0].num_students

    def over(self, value: Callable[[Outcome], float]) -> tuple[float, ...]:
        """A value of each run."""
        return tuple(value(run) for run in self.runs)


def distinct(runs: Sequence[Outcome]) -> tuple[list[Outcome], list[Outcome]]:
    """The runs without those that repeat the config and seed of one before, and the repetitions."""
    seen: set[str] = set()
    kept: list[Outcome] = []
    repeated: list[Outcome] = []
    for run in runs:
        key = json.dumps([run.dataset, run.seed, run.settings], sort_keys=True, allow_nan=False)
        (repeated if key in seen else kept).append(run)
        seen.add(key)
    return kept, repeated


def groups(runs: Sequence[Outcome]) -> list[Group]:
    """Groups of distinct runs, in their order; of several with one name and K the one of most seeds first.

    That one is named as all others are; the rest say in brackets which settings differ from it.
    """
    named: dict[tuple[str, str, int], dict[str, list[Outcome]]] = {}
    for run in runs:
        settings = json.dumps(run.settings, sort_keys=True, allow_nan=False)
        same = named.setdefault((run.dataset, run.label, run.num_students), {})
        same.setdefault(settings, []).append(run)
    found: list[Group] = []
    for variants in named.values():
        main, *others = sorted(variants.values(), key=len, reverse=True)  # stable: then the first
        found.append(Group(tuple(main)))
        found.extend(Group(tuple(other), _difference(other[0], main[0])) for other in others)
    return found


def main_runs(runs: Sequence[Outcome]) -> list[Outcome]:
    """The runs without variants: of one name and K, only those with the settings of most seeds."""
    return [run for group in groups(runs) if not group.variant for run in group.runs]


def mean(values: Sequence[float]) -> float:
    """Their mean, nan for none."""
    return float(np.mean(values)) if values else float("nan")


def deviation(values: Sequence[float]) -> float:
    """Their sample standard deviation, nan for fewer than two."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def p_value(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Of a two-tailed t-test that both have one mean, Welch's: variances may differ.

    nan where a side has fewer than two values, or all of each side are equal.
    """
    if min(len(ours), len(theirs)) < 2 or not (np.ptp(ours) or np.ptp(theirs)):
        return float("nan")
    sides = [part for side in (ours, theirs) for part in (mean(side), deviation(side), len(side))]
    return float(stats.ttest_ind_from_stats(*sides, equal_var=False).pvalue)


def seeds_for(p: float, ours: Sequence[float], theirs: Sequence[float]) -> int | None:
    """How many seeds a side make `p_value` less than `p`, should means and deviations stay as they are.

    None where `p_value` has none, or a thousand seeds are too few.
    """
    if math.isnan(p_value(ours, theirs)):
        return None
    sides = [(mean(side), deviation(side)) for side in (ours, theirs)]
    for count in range(2, 1001):
        parts = [part for side in sides for part in (*side, count)]
        if stats.ttest_ind_from_stats(*parts, equal_var=False).pvalue < p:
            return count
    return None


def _difference(run: Outcome, main: Outcome) -> str:
    absent = object()
    keys = sorted(run.settings.keys() | main.settings.keys())
    return ", ".join(
        f"{key} = {run.settings.get(key, 'absent')}"
        for key in keys
        if run.settings.get(key, absent) != main.settings.get(key, absent)
    )
