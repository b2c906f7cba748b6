"""The section of the page about broken inputs and commands that ended early."""

from benchmarks.page import cells
from benchmarks.page.cells import Result
from ektf_jax.report.render import Block, Heading, Text

_ENDS = {
    "moment": "killed at a moment",
    "kill": "killed at a write",
    "torn": "killed in a write",
    "full": "disk full",
    "read_only": "read-only",
    "two at once": "two at once",
    "child": "its runs killed",
}


def faults(result: Result) -> list[Block]:
    """What was tried, and what it found."""
    inputs = [
        [name, *(f"{counts.get(key, 0):,}" for key in ("tried", "refused", "right", "wrong"))]
        for name, counts in result["inputs"].items()
    ]
    ends = [
        [name, *(f"{counts.get(key, 0):,}" for key in ("tried", *_ENDS, "wrong"))]
        for name, counts in result["kills"].items()
    ]
    tried = [sum(counts.get("tried", 0) for counts in result[kind].values()) for kind in ("inputs", "kills")]
    found = [[one["what"], one["where"], one["mended"]] for one in result["found"]]
    return [
        Heading("Faults"),
        Text(
            f"{tried[0]:,} small files that were broken (cut, a bit flipped, blocks swapped or repeated,"
            " something inserted, a value of another type) and read by the command that reads them, and"
            f" {tried[1]:,} commands that ended early. `benchmarks/faults/` says when either passes; numbers"
            " are of all calls so far. The last command is below."
        ),
        cells.provenance(result, {"": result["versions"]}),
        cells.table(
            ("file", "tried", "refused in a line that names it", "right all the same", "wrong"), inputs
        ),
        cells.table(("command", "tried", *_ENDS.values(), "wrong"), ends),
        Text("What it found, mended since:"),
        cells.table(("found", "where", "mended"), found),
    ]
