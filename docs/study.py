"""Writes the tables of choosing.md that results/scaling is behind: python -m docs.study"""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from ektf_jax.report import results, seeds
from ektf_jax.report.paper.names import NAMES
from ektf_jax.report.scaling import curves
from ektf_jax.report.tables import probability, spread

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "choosing.md"

# A marked table, by its directory below results/: what it is of.
TABLES = {
    "scaling/ml1m": "MovieLens-1M",
    "scaling/frappe": "Frappe (redrawn negatives)",
    "scaling_second/ml1m": "MovieLens-1M, a second split",
}
_VALUES = {"ensemble": curves.ensemble_auc, "chosen student": curves.student_auc}
# What recipes with averaged weights change.
_AVERAGED = ("train.ema", "train.learning_rate_decay", "train.patience")


def study(directory: str) -> list[curves.Curve]:
    """Return the recipes of a directory below results/ that has two Ks or more of them."""
    return curves.curves(seeds.main_runs(_runs(directory)))


def table(directory: str) -> str:
    """Test AUC of the smallest and the largest ensemble of every recipe, as markdown.

    Mean and deviation over seeds. The recipe whose largest ensemble is best on validation data comes first.
    """
    of = sorted(study(directory), key=lambda curve: -curve.best_valid_auc)
    ends = ("fewest", "most")
    lines = [
        f"| {TABLES[directory]} | K | {' | '.join(f'{whose}, {end}' for whose in _VALUES for end in ends)} |",
        "|" + " --- |" * (2 + 2 * len(_VALUES)),
    ]
    for curve in of:
        cells = [spread(curve.over(value)[end], 4) for value in _VALUES.values() for end in curve.ends]
        lines.append(f"| {_name(curve)} | {' and '.join(map(str, curve.ends))} | {' | '.join(cells)} |")
    return "\n".join(lines)


def averages(directory: str) -> str:
    """Test AUC of every recipe with averaged weights beside the same without, as markdown.

    Mean and deviation over seeds, p of Welch's test. The learning rate falls when validation AUC does not
    rise, or it stands. The best on validation data comes first.
    """
    groups = seeds.groups(_runs(directory))
    usual = {_twin(group): group for group in groups if not (group.variant or _setting(group, "train.ema"))}
    of = [group for group in groups if _setting(group, "train.ema") and _twin(group) in usual]
    header = [TABLES[directory], "K", "rate", "seeds"]
    lines = [
        f"| {' | '.join([*header, *(cell for whose in _VALUES for cell in (whose, 'without', 'p'))])} |",
        "|" + " --- |" * (len(header) + 3 * len(_VALUES)),
    ]
    for group in sorted(of, key=lambda group: -seeds.mean(group.over(curves.valid_auc))):
        without = usual[_twin(group)]
        rate = "stands" if _setting(group, "train.learning_rate_decay") == 1 else "falls"
        cells = [_name(without), str(group.num_students), rate, f"{len(group.runs)} and {len(without.runs)}"]
        for value in _VALUES.values():
            ours, theirs = group.over(value), without.over(value)
            cells += [spread(ours, 4), spread(theirs, 4), probability(seeds.p_value(ours, theirs))]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def written(page: str) -> str:
    """Return a page with the tables as they are now."""
    for name, make in {"results": table, "averages of results": averages}.items():
        for directory in TABLES:
            start, end = f"<!-- {name}/{directory} -->\n", "\n<!-- end -->"
            page, found = re.subn(
                re.escape(start) + ".*?" + re.escape(end),
                lambda _: start + make(directory) + end,  # noqa: B023
                page,
                flags=re.S,
            )
            assert found == 1, f"{PAGE.name} has no place for {name}/{directory}"
    return page


@cache
def _runs(directory: str) -> list[results.Outcome]:
    return results.load(ROOT / "results" / directory, names=NAMES)


def _setting(group: seeds.Group, key: str) -> Any:
    return group.runs[0].settings[key]


def _twin(group: seeds.Group) -> str:
    """What a recipe with averaged weights has in common with the one without."""
    settings = group.runs[0].settings
    return json.dumps({key: settings[key] for key in sorted(settings) if key not in _AVERAGED})


def _name(of: curves.Curve | seeds.Group) -> str:
    """A recipe's label; own tables are what the page is about, and are not said."""
    name, *rest = of.label.split(", ")
    if "a table each" in rest:
        rest.remove("a table each")
    elif "50% own columns" not in rest and not name.startswith("single "):
        rest.append("one table")
    return ", ".join([name, *rest])


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
