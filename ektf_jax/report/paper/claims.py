"""Whether EKTF beats what its students are without it: differences and tests."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ektf_jax.report.paper import published, select
from ektf_jax.report.paper.rows import SIGNIFICANT, Row, find, make_row, p_text, star_of
from ektf_jax.report.results import Outcome
from ektf_jax.report.seeds import deviation, mean, p_value, seeds_for
from ektf_jax.report.tables import STAR, Cell, Table, digits_of, row, signed


def claims(runs: Sequence[Outcome], dataset: str, peers: Sequence[Outcome] = ()) -> Table | None:
    """EKTF against the single MLP, the plain mean of the same students and the authors' EKTF, tested.

    `peers` are runs of another implementation. None where no pair of these was run.
    """
    latest = select.of(*select.LATEST)
    cases: list[tuple[str, int, str, select.Is]] = [
        ("EKTF_MLP", size, "EKTF", select.both(select.of_mlps, select.sized(size)))
        for size in select.sizes(find(runs, select.of_mlps))
    ]
    cases.append(("EKTF_Latest", len(select.LATEST), "EKTF_L", latest))
    tested: list[_Tested] = []
    for title, size, family, students in cases:
        ours = make_row(title, find(runs, select.ektf(), students), size=str(size))
        others = [
            make_row("MLP", find(runs, select.alone("mlp"))),
            make_row("plain mean of the same", find(runs, select.method("none"), students)),
        ]
        if theirs := find(peers, select.ektf(), students):
            others.append(make_row(f"the same by {theirs[0].peer}", theirs))
        if again := published.reruns(dataset, family, size):
            others.append(Row(_AUTHORS, again, ()))
        tested += [_Tested(ours, other) for other in others]
    here = [pair for pair in tested if pair.ours.values and pair.other.values]
    if not any(pair.other.title != _AUTHORS for pair in here):
        return None
    header = "model,K,seeds,against,its seeds,AUC difference,p,seeds for ★,logloss difference,p"
    notes = (
        f"{STAR}: better, with p < {SIGNIFICANT:g}. Beside p: whether the first is better or worse. Without"
        f" p: fewer than two seeds on a side. Seeds for {STAR}: how many a side this difference in AUC would"
        " take, should means and deviations stay.",
        *(["The same by another implementation: `benchmarks.accuracy`, on the same rows."] if peers else []),
        *([_AUTHORS_NOTE] if any(pair.other.title == _AUTHORS for pair in here) else []),
        *_verdicts(here),
        f"Runs of both sides of {len(here)} of {len(tested)} rows are here.",
    )
    return Table(
        "Does EKTF beat a single MLP and the plain mean?",
        tuple(header.split(",")),
        tuple(pair.cells() for pair in tested),
        notes,
    )


_AUTHORS = "the authors' code, this split"
_AUTHORS_NOTE = (
    "The authors' code, this split: their model class, trained for this project on the same split up to one"
    " row (`ektf_jax/report/paper/published`)."
)


@dataclass(frozen=True)
class _Tested:
    """A row of ours and the one it is tested against."""

    ours: Row
    other: Row

    def gain(self, metric: str) -> float:
        return mean(self.ours.of(metric)) - mean(self.other.of(metric))

    def p(self, metric: str) -> float:
        return p_value(self.ours.of(metric), self.other.of(metric))

    def holds(self) -> bool:
        """Whether ours has the higher AUC, significantly."""
        return self.gain("auc") > 0 and self.p("auc") < SIGNIFICANT

    def seeds_for_star(self) -> str:
        """Empty where ours is not better or there is a star already."""
        if self.holds() or math.isnan(self.p("auc")) or self.gain("auc") <= 0:
            return ""
        needed = seeds_for(SIGNIFICANT, self.ours.of("auc"), self.other.of("auc"))
        return "over 1,000" if needed is None else str(needed)

    def cells(self) -> tuple[Cell, ...]:
        ours, other = self.ours, self.other
        shown = {
            metric: (
                signed(self.gain(metric), digits_of(other.of(metric)))
                + star_of(ours.of(metric), other.of(metric), metric),
                p_text(ours.of(metric), other.of(metric), metric),
            )
            for metric in ("auc", "logloss")
        }
        return row(
            *(ours.title, ours.size, str(len(ours.values)), other.title, str(len(other.values))),
            *(*shown["auc"], self.seeds_for_star(), *shown["logloss"]),
        )


def _verdicts(pairs: Sequence[_Tested]) -> list[str]:
    """In words, by AUC: over what EKTF is better, over what it is not and why, and what no test can tell."""

    def named(pair: _Tested) -> str:
        return f"{pair.ours.title} K = {pair.ours.size} over {pair.other.title}"

    claimed = [pair for pair in pairs if pair.other.title in ("MLP", "plain mean of the same")]
    held = [named(pair) for pair in claimed if pair.holds()]
    failed = [
        f"{named(pair)} ({signed(pair.gain('auc'), 4)}, where seeds alone differ by"
        f" {deviation(pair.ours.of('auc')):.4f} and {deviation(pair.other.of('auc')):.4f})"
        for pair in claimed
        if not pair.holds() and not math.isnan(pair.p("auc"))
    ]
    untested = sum(math.isnan(pair.p("auc")) for pair in claimed)
    verdicts = [
        f"Significantly better by AUC: {'; '.join(held) or 'nothing'}.",
        *([f"Not significantly: {'; '.join(failed)}."] if failed else []),
        *([f"Pairs with too few seeds for a test: {untested}."] if untested else []),
    ]
    return [" ".join(verdicts)]
