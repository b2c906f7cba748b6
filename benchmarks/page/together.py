"""The section of the page about runs of a sweep that share a process."""

from benchmarks.page import cells
from benchmarks.page.cells import Result
from ektf_jax.report.render import Block, Heading, Text


def together(result: Result) -> list[Block]:
    """Seconds of runs one process after another, and of one process for all."""
    rows = []
    for case in result["cases"]:
        seconds = case["seconds"]
        turns = seconds["taking turns"]
        rows.append(
            [
                case["model"],
                str(case["runs"]),
                cells.spread(seconds["alone"], 1),
                f"{turns:.1f}",
                f"{seconds['as one']:.1f}" if "as one" in seconds else "",
                f"{seconds['alone']['median'] / turns:.1f}",
            ]
        )
    return [
        Heading("Runs together"),
        Text(
            "Seconds of runs that differ in their seeds, an epoch of 40 steps on random rows of ML-1M's"
            " shape, from the start of a process to `result.json`, with a filled compilation cache. Alone: a"
            " process for each, of which three were measured. Together: runs take turns in one process, as"
            " those of `sweep --together` on a CPU. As one: a step over a leading axis of runs."
        ),
        cells.provenance(result, {"": result["versions"]}),
        cells.table(("model", "runs", "alone", "together", "as one", "times as fast together"), rows),
    ]
