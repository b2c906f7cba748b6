"""The section of the page about lists, attention over them and pretrained vectors."""

from benchmarks.page import cells
from benchmarks.page.cells import Result
from ektf_jax.report.render import Block, Heading, Text


def fields(result: Result) -> list[Block]:
    """What each way to have a list costs a step."""
    rows = [
        [
            *(case["way"], f"{case['params']:,}", cells.milliseconds(case["step_seconds"])),
            *(f"{case['samples_per_second']:,}", cells.times(case["times_the_sum"])),
        ]
        for case in result["cases"]
    ]
    return [
        Heading("Lists and pretrained vectors"),
        Text(
            f"A training step of one MLP on {result['batch_size']:,} random rows of ML-1M's shape, and a list"
            f" of {result['slots']} movies in each: without the list, with its sum, with attention of the"
            " row's movie to it, and with the sum where the movie and the list have pretrained vectors of"
            f" {result['numbers']} numbers. Medians of turns on the same rows in one process; a ratio is of"
            " one turn."
        ),
        cells.provenance(result, {"": result["versions"]}),
        cells.table(("list", "parameters", "step, ms", "samples/s", "times the sum's step"), rows),
    ]
