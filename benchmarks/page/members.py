"""The section of the page about members of one network."""

from benchmarks.page import cells
from benchmarks.page.cells import Result
from ektf_jax.report.render import Block, Heading, Text


def members(result: Result) -> list[Block]:
    """What members cost beside copies, by K."""
    rows = [
        [
            str(case["students"]),
            case["way"],
            f"{case['params']:,}",
            cells.milliseconds(case["step_seconds"]),
            f"{case['temporary_mib']:,}",
            f"{case['peak_mib']:,}",
        ]
        for case in result["cases"]
    ]
    return [
        Heading("Members of one network"),
        Text(
            f"K MLPs by their own losses over one table, {cells.dataset(result['shape'])} shape: as copies,"
            " and as members that share their kernels (`ensemble.members=adapters`), which keep their"
            " activations for the gradient, as up to ten of them do, or compute them again. Temporary memory"
            " is the compiler's figure for a training step beside its arguments, peak memory that of the"
            " process."
        ),
        cells.provenance(result, {"": result["versions"]}),
        cells.table(("K", "", "parameters", "step, ms", "temporary memory, MiB", "peak memory, MiB"), rows),
    ]
