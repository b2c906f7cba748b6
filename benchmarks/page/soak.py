"""The section of the page about training for long."""

from benchmarks.page import cells
from benchmarks.page.cells import Result
from ektf_jax.report.render import Block, Heading, Text


def soak(result: Result) -> list[Block]:
    """Memory and throughput by quarters of a run that was killed, and of the same one left alone."""
    rows = [
        [
            name,
            f"{run['hours']:.2f}",
            str(run["kills"]),
            *(
                ", ".join(f"{value:,}" for value in run[key])
                for key in ("memory_gb", "samples_per_cpu_second", "samples_per_second")
            ),
        ]
        for name, run in result["runs"].items()
    ]
    same = "The two left the same bits" if result["same_bits"] else "The two did not leave the same bits"
    return [
        Heading("Training with kills"),
        Text(
            f"EKTF over two small MLPs on {result['rows']:,} generated rows of Criteo, {result['epochs']}"
            f" epochs of {result['train_rows']:,}. Once killed at random moments and started again, once left"
            " alone. Memory is the largest, throughput the median, of whole epochs in the first to the fourth"
            f" quarter of a run. {same}: metrics of every epoch, result and the weights kept."
        ),
        cells.provenance(result, {"": result["versions"]}),
        cells.table(
            ("run", "hours", "kills", "memory, GB", "samples per processor second", "samples/s"), rows
        ),
    ]
