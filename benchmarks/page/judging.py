"""The section of what looking into finished runs takes."""

from benchmarks.page import cells
from benchmarks.page.cells import Result
from ektf_jax.report.render import Block, Heading, Text


def judging(result: Result) -> list[Block]:
    """Importance beside whole evaluations, and the comparison of two predictors."""
    found, compared = result["importance"], result["compare"]
    rows = [
        ["permutation importance", cells.seconds(found["ours_seconds"])],
        ["all rows predicted for every shuffle", cells.seconds(found["plain_seconds"])],
        ["times as fast", cells.times(found["speedup"])],
        [f"comparison of two predictors of {compared['rows']:,} rows", cells.seconds(compared["seconds"])],
    ]
    return [
        Heading("Looking into runs"),
        Text(
            f"Importance of the {found['fields']} fields of {cells.dataset(found['dataset'])} to"
            f" K={found['students']} students and their ensemble, {found['repeats']} shuffles each of"
            f" {found['rows']:,} validation rows: a row is predicted once with each value that shuffles bring"
            " it. The largest difference to predicting all of them is"
            f" {found['largest_difference']:.1e} AUC. The comparison is DeLong's test and a paired bootstrap"
            " of 1,000 draws, with an interval of each predictor."
        ),
        cells.provenance(result, {"": result["versions"]}),
        cells.table(("", "seconds"), rows),
    ]
