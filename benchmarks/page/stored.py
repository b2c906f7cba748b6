"""The sections of the page about rows on disk: what they need, and what opening them costs."""

from benchmarks.page import cells
from benchmarks.page.cells import Result
from ektf_jax.report.render import Block, Heading, Text


def disk(result: Result) -> list[Block]:
    """What rows need on disk while and after they are prepared."""
    kinds = {"text": ("text", result["prepare"]), "parts": ("Parquet parts of ids", result["ids"])}
    rows = [
        [
            name,
            f"{result[f'{kind}_bytes_per_row']:.0f}",
            *(f"{found[key]:.0f}" for key in ("bytes_per_row", "scratch", "beside_it")),
            f"{found['rows_per_second']:,}",
            f"{found['peak_gb']:.2f}",
        ]
        for kind, (name, found) in kinds.items()
    ]
    header = ("from", "read", "written", "codes before it", "beside it", "rows/s", "peak memory, GB")
    return [
        Heading("Rows on disk"),
        Text(
            f"`experiments.prepare` of {result['rows']:,} made-up rows of Criteo, bytes a row: of the raw"
            " files, of the result, of the codes that come before it and go as it comes, and the most that"
            f" there was in all, less the result. {result['cold_rows_per_second']:,} random training rows a"
            " second come from a file that the page cache has let go."
        ),
        cells.provenance(result, {"": result["versions"]}),
        cells.table(header, rows),
    ]


def opening(result: Result) -> list[Block]:
    """What the check of a dataset costs at a run's start."""
    rows = [[f"{result['rows']:,}", f"{result['mib']:,}", cells.seconds(result["seconds"])]]
    return [
        Heading("Opening a dataset"),
        Text(
            f"Every value and the digests of all arrays, in one pass, {cells.dataset(result['shape'])} shape;"
            " the files are in the page cache."
        ),
        cells.provenance(result, {"": result["versions"]}),
        cells.table(("rows", "MiB", "seconds"), rows),
    ]
