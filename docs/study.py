"""Writes the tables of choosing.md that results/scaling is behind: python -m docs.study"""

import re
from pathlib import Path

from ektf_jax.report import results, seeds
from ektf_jax.report.scaling import curves
from ektf_jax.report.scaling.page import SCALING
from ektf_jax.report.tables import spread

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "choosing.md"

# A marked table, by its directory below results/: what it is of.
TABLES = {
    "scaling/ml1m": "MovieLens-1M",
    "scaling/frappe": "Frappe (redrawn negatives)",
    "scaling_second/ml1m": "MovieLens-1M, a second split",
}
_VALUES = {"ensemble": curves.ensemble_auc, "chosen student": curves.student_auc}


def study(directory: str) -> list[curves.Curve]:
    """Return the recipes of a directory below results/ that has two Ks or more of them."""
    return curves.curves(seeds.main_runs(results.load(ROOT / "results" / directory, names=SCALING.names)))


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


def written(page: str) -> str:
    """Return a page with the tables as they are now."""
    for directory in TABLES:
        start, end = f"<!-- results/{directory} -->\n", "\n<!-- end -->"
        made = start + table(directory) + end
        page, found = re.subn(re.escape(start) + ".*?" + re.escape(end), lambda _: made, page, flags=re.S)  # noqa: B023
        assert found == 1, f"{PAGE.name} has no place for {directory}"
    return page


def _name(curve: curves.Curve) -> str:
    """A recipe's label; own tables are what the page is about, and are not said."""
    name, *rest = curve.label.split(", ")
    if "a table each" in rest:
        rest.remove("a table each")
    elif "50% own columns" not in rest:
        rest.append("one table")
    return ", ".join([name, *rest])


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
