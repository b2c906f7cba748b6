"""The section of the page about what each choice in a training step brings."""

from benchmarks.page import cells
from benchmarks.page.cells import Result
from ektf_jax.report.render import Block, Heading, Text


def variants(result: Result) -> list[Block]:
    """The step as it is, and with one choice undone or added."""
    rows = [
        [
            str(case["students"]),
            case["variant"],
            cells.milliseconds(case["step_seconds"]),
            cells.times(case["times_as_long"]),
            cells.spread(case["compile_seconds"]),
            f"{case['temporary_mib']:,}",
        ]
        for case in result["cases"]
    ]
    return [
        Heading("Choices in a step"),
        Text(
            f"EKTF over K MLPs in float32, {cells.dataset(result['shape'])} shape: the step as"
            " `experiments.train` runs it, and with one choice undone or added. Dropout by jax.random is for"
            " BatchNorm, ReLU and dropout one by one. Temporary memory is the compiler's figure."
        ),
        cells.provenance(result, {"": result["versions"]}),
        cells.table(("K", "", "step, ms", "times as long", "compile time, s", "temporary memory, MiB"), rows),
    ]
