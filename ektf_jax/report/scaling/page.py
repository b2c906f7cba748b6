"""The report of a study over K (`configs/scaling.py`): AUC, diversity and cost over K, and tests."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from ektf_jax.report import page
from ektf_jax.report.names import Names
from ektf_jax.report.page import Report, Section
from ektf_jax.report.render import Block, Heading, Picture, Text
from ektf_jax.report.results import Outcome
from ektf_jax.report.scaling import curves, figures, tables
from ektf_jax.report.scaling.conclusion import conclusion

_GUIDE = (
    "A recipe is everything about a run but K and its seed. Choices are made on validation data: the epoch"
    " that is kept, the best student of a run (the chosen student), the order of recipes. AUC is a fraction.",
    "p is of a two-tailed t-test over seeds (Welch's). Bars are one standard deviation over seeds to either"
    " side; the axis of K is not to scale.",
    "Own losses: each student is trained by its own cross-entropy alone, nothing passes between them; the"
    " plain mean is trained by the loss of the ensemble.",
)

_CAPTIONS = {
    "auc_over_k": "AUC over K. Test AUC of the ensemble and of the student that validation chooses, a row of"
    " panels for each kind of students, or several. In each the recipe in blue is the best on validation"
    " data; a number with an arrow is off the scale.",
    "auc_over_cost": "AUC over cost. Test AUC of the ensemble over what it is made of, what a prediction and"
    " what the training takes: points of a curve are its Ks.",
    "diversity": "Diversity and collapse over K. Ambiguity is what the ensemble gains in cross-entropy over"
    " the mean of its students; the correlation of errors is over pairs of students; the effective rank is of"
    " the embeddings, the mean over fields.",
}


def write(source: Path, out: Path, called: Names, *, title: str) -> str:
    """Write the report of all runs below `source`, as `report.page.write` does."""
    return page.write(source, out, SCALING, called, title=title)


def _section(main: Sequence[Outcome], runs: Sequence[Outcome], dataset: str) -> Section:
    del runs, dataset
    of = curves.curves(main)
    blocks: list[Block] = []
    absent: list[str] = []
    made = {
        tables.GROWTH: tables.growth(of),
        tables.PAIRS: tables.compared(of),
        tables.POINTS: tables.points(of),
    }
    for title, table in made.items():
        if table is None:
            absent.append(title)
        else:
            blocks += [Heading(title, 3), table]
    said = conclusion(of)
    short: list[Block] = [Heading("In short", 3), *map(Text, said)] if said else []
    rows = figures.rows(of)
    drawn: dict[str, Figure | None] = {
        "auc_over_k": figures.over_k(rows),
        "auc_over_cost": figures.over_cost(rows),
        "diversity": figures.what_goes_on(rows),
    }
    pictures = [Picture(name, figure, _CAPTIONS[name]) for name, figure in drawn.items() if figure]
    return Section(
        [*short, *pictures, *blocks], [*absent, *(name for name, figure in drawn.items() if not figure)]
    )


SCALING = Report(guide=_GUIDE, section=_section)
