"""The sections of what predicts: latency of models, and whole files."""

from benchmarks.page import accuracy, cells, figures
from benchmarks.page.cells import Result
from ektf_jax.report.render import Block, Heading, Picture, Text


def inference(result: Result) -> list[Block]:
    """Latency and throughput of each side, and accuracy over latency."""
    rows = [
        [
            _model(case),
            str(case["rows"]),
            side,
            f"{1e3 * found['median']:,.2f}",
            f"{1e3 * found['p99']:,.2f}",
            f"{found['rows_per_second']:,}",
        ]
        for case in result["cases"]
        for side, found in case["sides"].items()
    ]
    header = ("model", "B", "side", "median, ms", "99th percentile, ms", "rows/s")
    blocks: list[Block] = [
        Heading("Inference"),
        Text(
            "From ids to logits in evaluation mode: the live model, its program in a bundle, by JAX and by"
            " onnxruntime, and the peer in PyTorch, eager and by `torch.onnx.export` and onnxruntime."
        ),
        cells.provenance(result, result["versions"]),
    ]
    if points := accuracy.points(result["cases"]):
        blocks += [
            Picture("inference", figures.accuracy(points), "Test AUC on MovieLens-1M over latency."),
            Text(
                "AUC is the mean over seeds of the runs in results/ml1m, of a student that of all of its kind"
                " in the ensemble; latency the median of one row, by onnxruntime where it was measured."
            ),
        ]
    return [*blocks, cells.table(header, rows)]


def _model(case: Result) -> str:
    if case["what"] != "ensemble":
        return f"{case['what']} alone, {cells.dataset(case['shape'])}"
    return f"ensemble of {case['students']}, {cells.dataset(case['shape'])}"


def score(result: Result) -> list[Block]:
    """Raw rows to written predictions."""
    rows = [
        [
            f"{run['rows']:,}",
            *(f"{run['rows_per_second'][of]:,}" for of in ("score", "encoder", "model")),
            f"{run['lost']:.1%}",
            f"{run['peak_gb']:.2f} GB",
        ]
        for run in result["runs"]
    ]
    header = ("rows", "score, rows/s", "encoder alone", "model alone", "lost", "peak memory")
    return [
        Heading("Scoring files"),
        Text(
            f"From raw CSV to written Parquet, {cells.dataset(result['shape'])} shape, one MLP, without"
            " metrics. Alone, the encoder reads and encodes the same rows, and the model predicts as many."
            " Lost is what the whole takes longer than the slower of the two."
        ),
        cells.provenance(result, {"": result["versions"]}),
        cells.table(header, rows),
    ]
