"""A section of the page for each benchmark."""

from collections.abc import Sequence

from benchmarks.page import (
    cells,
    faults,
    fields,
    figures,
    judging,
    members,
    predictions,
    soak,
    stored,
    together,
    variants,
)
from benchmarks.page.cells import Result
from ektf_jax.report.render import Block, Heading, Picture, Text


def train(result: Result) -> list[Block]:
    """Steps and epochs against the peer."""
    rows = []
    for case in result["cases"]:
        for what in ("step", "epoch"):
            if what in case:
                found = case[what]
                samples = case["batch_size"] if what == "step" else case["epoch_rows"]
                waited = f"{found['input_wait']['median']:.2%}" if what == "epoch" else ""
                rows.append(
                    [
                        *(cells.shape(case), what),
                        *(cells.milliseconds(found[f"{side}_seconds"]) for side in ("ours", "peer")),
                        f"{samples / found['ours_seconds']['median']:,.0f}",
                        *(cells.times(found["speedup"]), waited),
                    ]
                )
    allocator = "glibc's default" if result["peer_malloc"] == "default" else "set as ours"
    header = ("shape", "of", "ours, ms", "peer, ms", "ours, samples/s", "times as fast", "waiting for rows")
    figure = figures.bars(
        [cells.shape(case) for case in result["cases"]],
        [case["step"]["speedup"]["median"] for case in result["cases"]],
        "training steps per second, peer = 1",
    )
    return [
        Heading("Training"),
        Text(
            "EKTF in float32 with dropout: steps on one batch in memory, and whole epochs with the input"
            " pipeline, without evaluation. `experiments.train` beside EKTF in PyTorch as FuxiCTR trains it"
            " (`benchmarks/peer.py`; its losses equal ours, `tests/benchmarks/test_peer.py`). Ids are random,"
            f" uniform in each field. The peer's memory allocator is {allocator}."
        ),
        cells.provenance(result, result["cases"][0]["versions"]),
        cells.table(header, rows),
        Picture("train", figure, "Training speed: how many times as fast as the peer a step is."),
    ]


def epoch(result: Result) -> list[Block]:
    """What epochs keep of a step's speed."""
    rows = [
        [
            *(cells.shape(case), str(case["epoch_steps"])),
            *(cells.milliseconds(case[key]) for key in ("step_seconds", "epoch_step_seconds")),
            *(
                cells.percent(case["kept"], 1),
                cells.percent(case["input_wait"], 2),
                str(case["kept"]["count"]),
            ),
        ]
        for case in result["cases"]
    ]
    header = (
        "shape",
        "steps",
        "alone, ms",
        "in an epoch, ms",
        "of the step's speed",
        "waiting for rows",
        "runs",
    )
    return [
        Heading("Epochs beside steps"),
        Text(
            "An epoch of `experiments.train`'s loop, its time per step beside that of the same step timed"
            " alone, every few steps of that epoch: means of a run."
        ),
        cells.provenance(result, {"": result["versions"]}),
        cells.table(header, rows),
    ]


def students(result: Result) -> list[Block]:
    """Every model alone."""
    rows = [
        [
            *(case["model"], f"{case['params']:,}", cells.milliseconds(case["step_seconds"])),
            *(f"{case['samples_per_second']:,}", f"{case['compile_seconds']:.1f}", f"{case['peak_mib']:,}"),
            *_original(case),
        ]
        for case in sorted(result["cases"], key=lambda case: -case["samples_per_second"])
    ]
    header = ("model", "parameters", "step, ms", "samples/s", "compile time, s", "peak memory, MiB")
    theirs: dict[str, str] = next(
        (case["original"]["versions"] for case in result["cases"] if "original" in case), {}
    )
    return [
        Heading("Models"),
        Text(
            "A training step of every model of Table 2 alone, with its published settings on ML-1M, a process"
            " for each; the fastest first. Its original in PyTorch, of FuxiCTR's model zoo or its authors,"
            " takes turns with it; where that has another number of parameters it is another model."
        ),
        cells.provenance(result, {"": result["versions"]} | ({"original": theirs} if theirs else {})),
        cells.table((*header, "original's parameters", "its step, ms", "times as fast"), rows),
    ]


def _original(case: Result) -> tuple[str, str, str]:
    if "original" not in case:
        return ("", "", "")
    found = case["original"]
    return (
        f"{found['params']:,}",
        cells.milliseconds(found["step_seconds"]),
        cells.times(found["times_as_fast"]),
    )


def evaluate(result: Result) -> list[Block]:
    """AUC and logloss against scikit-learn."""
    sort = result["sort_of_one_predictor"]
    rows = [
        ["ours", cells.seconds(result["ours_seconds"])],
        ["scikit-learn", cells.seconds(result["peer_seconds"])],
        ["times as fast", cells.times(result["speedup"])],
        ["sort of one predictor: polars (ours)", cells.seconds(sort["polars_seconds"])],
        ["sort of one predictor: numpy", cells.seconds(sort["numpy_seconds"])],
    ]
    gap = max(result["largest_difference"].values())
    return [
        Heading("Evaluation"),
        Text(
            f"Exact AUC and logloss of {result['predictors']} predictors over {result['rows']:,} rows, on"
            f" {result['threads']} threads. The largest difference between the two is {gap:.1e}."
        ),
        cells.provenance(result, {"": result["versions"]}),
        cells.table(("", "seconds"), rows),
    ]


def encode(result: Result) -> list[Block]:
    """Raw text to encoded dataset, against FuxiCTR."""
    rows = []
    for run in result["runs"]:
        for side in ("ours", "fuxictr"):
            if side in run:
                found = run[side]
                times = cells.times(run["times_as_fast"]) if side == "ours" and "times_as_fast" in run else ""
                rows.append(
                    [
                        *(cells.dataset(run["dataset"]), f"{run['rows']:,}", side),
                        cells.spread(found["rows_per_second"], 0),
                        *(cells.spread(found["peak_gb"]), times),
                    ]
                )
    header = ("dataset", "rows", "by", "rows/s", "peak memory, GB", "times as fast")
    minutes = result["projected_minutes"].items()
    projected = " and ".join(f"{count} minutes ({cells.dataset(name)})" for name, count in minutes)
    return [
        Heading("Encoding"),
        Text(
            "From synthetic raw text to the encoded dataset: `experiments.prepare` beside FuxiCTR, whole"
            " processes (`benchmarks/encode.py` says what each does)."
        ),
        cells.provenance(result, {"": result["versions"]}),
        cells.table(header, rows),
        Text(f"At the pace of the largest size, the full files take {projected}."),
    ]


def residence(result: Result) -> list[Block]:
    """Rows on the host and on the device, in the loop of training."""
    rows = [
        [
            cells.shape(case),
            name,
            cells.spread(found["samples_per_second"], 0),
            cells.percent(found["input_wait"], 1),
        ]
        for case in result["cases"]
        for name, found in case["variants"].items()
    ]
    return [
        Heading("Where the rows lie"),
        Text(
            "`data.residence` in the loop of `experiments.train`, random rows, without evaluations and what"
            " compiles. `before` is the version that had its rows on the host alone; a step a dispatch also"
            " logs every step."
        ),
        cells.provenance(result, {"": result["versions"]}),
        cells.table(("shape", "rows", "samples/s", "waiting for rows"), rows),
    ]


def startup(result: Result) -> list[Block]:
    """Time to the first step."""
    parts = ("import", "build", "first_step", "total")
    names = {"off": "cache off", "empty": "cache empty", "filled": "cache filled"}
    rows = [
        [names.get(case["kind"], case["kind"]), *(cells.spread(case[part], 2) for part in parts)]
        for case in result["cases"]
    ]
    return [
        Heading("Time to the first step"),
        Text(
            f"Seconds from the start of a process, {cells.shape(result)}, with JAX's persistent compilation"
            " cache off, on but empty, and filled by an earlier process. The first step compiles."
        ),
        cells.provenance(result, result["versions"]),
        cells.table(("", "imports", "build", "first step", "together"), rows),
    ]


def scale_k(result: Result) -> list[Block]:
    """Growth with K."""
    rows = [
        [
            str(case["students"]),
            f"{case['params']:,}",
            cells.milliseconds(case["step_seconds"]),
            f"{1e3 * case['step_seconds']['median'] / case['students']:.1f}",
            f"{case['compile_seconds']:.1f}",
            f"{case['peak_mib']:,}",
        ]
        for case in result["cases"]
    ]
    names = {
        "step_seconds": "step, s",
        "compile_seconds": "compile time, s",
        "peak_mib": "peak memory, MiB",
    }
    growth = [
        [
            name,
            *(
                f"{result['growth'][key][fit]:,}"
                for fit in ("constant", "per_student", "r_squared", "exponent")
            ),
        ]
        for key, name in names.items()
    ]
    header = ("K", "parameters", "step, ms", "step per student, ms", "compile time, s", "peak memory, MiB")
    fits = ("", "constant", "per student", "R²", "exponent of K")
    return [
        Heading("Many students"),
        Text(f"EKTF over K MLPs, {cells.dataset(result['shape'])} shape, a process for each K."),
        cells.provenance(result, {"": result["versions"]}),
        cells.table(header, rows),
        *_ratios(result["cases"]),
        Text("A straight line through each, and the exponent of K in a power law through the larger K:"),
        cells.table(fits, growth),
        Picture("scale_k", figures.growth(result), "Growth with K: step time, compile time and peak memory."),
    ]


def scale(result: Result) -> list[Block]:
    """Needs and predictions."""
    needed, predicted = [], []
    for case in result["cases"]:
        parameters = 4 * (case["table"] + case["network"])
        needed.append(
            [
                *(cells.shape(case), f"{case['features']:,}", f"{case['table'] + case['network']:,}"),
                *(cells.in_bytes(n) for n in (parameters, 2 * parameters, parameters)),
                cells.in_bytes(4 * (case["activations"] + case["lookups"])),
                f"{case['flops'] / 1e9:,.1f}",
                cells.in_bytes(case["bytes_moved"]),
            ]
        )
        predicted += [
            [
                *(
                    cells.shape(case),
                    found["device"],
                    str(found["devices"]),
                    cells.in_bytes(found["bytes_per_device"]),
                ),
                *(f"{1e3 * found['seconds'][phase]:.2f}" for phase in ("students", "parameters", "exchange")),
                *(f"{1e3 * found['step_seconds']:.2f}", f"{found['samples_per_second']:,}"),
            ]
            for found in case["predictions"]
        ]
    devices = [
        [
            d["name"],
            f"{d['flops'] / 1e12:,.1f}",
            f"{d['bandwidth'] / 1e12:,.2f}",
            *(f"{d[key] / 1e9:,.0f}" for key in ("memory", "link")),
            d["source"],
        ]
        for d in result["devices"]
    ]
    here = result["this_machine"]
    checks = [
        [
            cells.shape(check),
            f"{1e3 * check['predicted_step_seconds']:.0f}",
            cells.milliseconds(check["measured_step_seconds"], 0),
            f"{check['measured_over_predicted']:.2f}",
        ]
        for check in result["checks"]
    ]
    phases = ("students, ms", "parameters, ms", "exchange, ms", "step, ms", "samples/s")
    blocks: list[Block] = [
        Heading("Scale on paper"),
        Text(
            "What a step needs, from schema and K alone, in float32, and the least time that public rates of"
            " accelerators allow for it (`benchmarks/scale.py` has the model). `billion` is Criteo with its"
            " vocabularies enlarged to a billion features."
        ),
        cells.table(
            (
                *("shape", "features", "parameters", "parameters, bytes", "Adam, bytes", "gradients, bytes"),
                *("activations, bytes", "GFLOP per step", "moved per step, bytes"),
            ),
            needed,
        ),
        Heading("Predicted", 3),
        cells.table(("shape", "device", "devices", "held by each", *phases), predicted),
        cells.table(("device", "TFLOP/s", "TB/s", "memory, GB", "link, GB/s", "source"), devices),
    ]
    if checks:
        blocks += [
            Heading("Checked", 3),
            Text(
                "The same model with the rates reached on this CPU,"
                f" {here['flops'] / 1e9:,.0f} GFLOP/s in a plain product and"
                f" {here['bandwidth'] / 1e9:,.1f} GB/s in a plain copy:"
            ),
            cells.provenance(result, {"": result["versions"]}),
            cells.table(("shape", "predicted, ms", "measured, ms", "measured / predicted"), checks),
        ]
    return blocks


def _ratios(cases: Sequence[Result]) -> list[Block]:
    """What 64 students cost beside 2 and 8, where these were measured."""
    by_k = {case["students"]: case for case in cases}
    if not {2, 8, 64} <= by_k.keys():
        return []
    compiled = by_k[64]["compile_seconds"] / by_k[2]["compile_seconds"]
    each = {k: by_k[k]["step_seconds"]["median"] / k for k in (8, 64)}
    return [
        Text(
            f"At K=64 compiling takes {compiled:.2f} times as long as at K=2, and a step takes"
            f" {each[64] / each[8]:.2f} times as long per student as at K=8."
        )
    ]


SECTIONS = {
    "train": train,
    "epoch": epoch,
    "students": students,
    "variants": variants.variants,
    "evaluate": evaluate,
    "judging": judging.judging,
    "encode": encode,
    "disk": stored.disk,
    "opening": stored.opening,
    "inference": predictions.inference,
    "score": predictions.score,
    "residence": residence,
    "together": together.together,
    "fields": fields.fields,
    "startup": startup,
    "scale_k": scale_k,
    "members": members.members,
    "scale": scale,
    "faults": faults.faults,
    "soak": soak.soak,
}
