"""Writes the tables of choosing.md that results/scaling is behind: python -m docs.study"""

import re
from pathlib import Path

from ektf_jax.report import results, seeds
from ektf_jax.report.scaling import curves
from ektf_jax.report.scaling.page import SCALING
from ektf_jax.report.tables import MISSING, spread

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "choosing.md"

# A marked table, by its directory below results/: what it is of.
TABLES = {
    "scaling/ml1m": "MovieLens-1M",
    "scaling/frappe": "Frappe (redrawn negatives)",
    "scaling_second/ml1m": "MovieLens-1M, a second split",
}
_SIZES = (2, 4, 6, 10)
_VALUES = {"ensemble": curves.ensemble_auc, "chosen student": curves.student_auc}


def study(directory: str) -> list[curves.Curve]:
    """Return the recipes of a directory below results/ that has two Ks or more of them."""
    return curves.curves(seeds.main_runs(results.load(ROOT / "results" / directory, names=SCALING.names)))


def table(directory: str) -> str:
    """Test AUC over K, a row for a recipe and whose it is: mean and deviation over seeds, as markdown."""
    of = sorted((curve for curve in study(directory) if curve.ends == (2, 10)), key=_name)
    sizes = [size for size in _SIZES if any(size in curve.groups for curve in of)]
    lines = [
        f"| {TABLES[directory]} | | {' | '.join(f'K = {size}' for size in sizes)} |",
        "|" + " --- |" * (2 + len(sizes)),
    ]
    for whose, value in _VALUES.items():
        for curve in of:
            over = curve.over(value)
            cells = (spread(over[size], 4) if size in over else MISSING for size in sizes)
            lines.append(f"| {_name(curve)} | {whose} | {' | '.join(cells)} |")
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
    return name if "a table each" in rest else f"{name}, one table"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
