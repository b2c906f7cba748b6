"""The page of all benchmarks, from results/benchmarks/*.json: python -m benchmarks.page

Writes README.md and its figures, PNG and SVG, beside the JSON files; a benchmark without a file is left out.
"""

import json
from collections.abc import Sequence
from typing import Any

from absl import app
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from benchmarks import common
from ektf_jax.report import figures, render
from ektf_jax.report.render import Block, Heading, Picture, Text
from ektf_jax.report.tables import Cell, Table

Result = dict[str, Any]


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
                        *(_shape(case), what),
                        *(_milliseconds(found[f"{side}_seconds"]) for side in ("ours", "peer")),
                        f"{samples / found['ours_seconds']['median']:,.0f}",
                        *(_times(found["speedup"]), waited),
                    ]
                )
    allocator = "glibc's default" if result["peer_malloc"] == "default" else "set as ours"
    header = ("shape", "of", "ours, ms", "peer, ms", "ours, samples/s", "times as fast", "waiting for rows")
    figure = _bars(
        [_shape(case) for case in result["cases"]],
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
        _provenance(result, result["cases"][0]["versions"]),
        _table(header, rows),
        Picture("train", figure, "Training speed: how many times as fast as the peer a step is."),
    ]


def epoch(result: Result) -> list[Block]:
    """What epochs keep of a step's speed."""
    rows = [
        [
            *(_shape(case), str(case["epoch_steps"])),
            *(_milliseconds(case[key]) for key in ("step_seconds", "epoch_step_seconds")),
            *(_percent(case["kept"], 1), _percent(case["input_wait"], 2), str(case["kept"]["count"])),
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
        _provenance(result, {"": result["versions"]}),
        _table(header, rows),
    ]


def students(result: Result) -> list[Block]:
    """Every model alone."""
    rows = [
        [
            *(case["model"], f"{case['params']:,}", _milliseconds(case["step_seconds"])),
            *(f"{case['samples_per_second']:,}", f"{case['compile_seconds']:.1f}", f"{case['peak_mib']:,}"),
        ]
        for case in sorted(result["cases"], key=lambda case: -case["samples_per_second"])
    ]
    header = ("model", "parameters", "step, ms", "samples/s", "compile time, s", "peak memory, MiB")
    return [
        Heading("Models"),
        Text(
            "A training step of every model of Table 2 alone, with its published settings on ML-1M, a process"
            " for each; the fastest first."
        ),
        _provenance(result, {"": result["versions"]}),
        _table(header, rows),
    ]


def evaluate(result: Result) -> list[Block]:
    """AUC and logloss against scikit-learn."""
    sort = result["sort_of_one_predictor"]
    rows = [
        ["ours", _seconds(result["ours_seconds"])],
        ["scikit-learn", _seconds(result["peer_seconds"])],
        ["times as fast", _times(result["speedup"])],
        ["sort of one predictor: polars (ours)", _seconds(sort["polars_seconds"])],
        ["sort of one predictor: numpy", _seconds(sort["numpy_seconds"])],
    ]
    gap = max(result["largest_difference"].values())
    return [
        Heading("Evaluation"),
        Text(
            f"Exact AUC and logloss of {result['predictors']} predictors over {result['rows']:,} rows, on"
            f" {result['threads']} threads. The largest difference between the two is {gap:.1e}."
        ),
        _provenance(result, {"": result["versions"]}),
        _table(("", "seconds"), rows),
    ]


def encode(result: Result) -> list[Block]:
    """Raw text to encoded dataset, against FuxiCTR."""
    rows = []
    for run in result["runs"]:
        for side in ("ours", "fuxictr"):
            if side in run:
                found = run[side]
                times = _times(run["times_as_fast"]) if side == "ours" and "times_as_fast" in run else ""
                rows.append(
                    [
                        *(_dataset(run["dataset"]), f"{run['rows']:,}", side),
                        _spread(found["rows_per_second"], 0),
                        *(_spread(found["peak_gb"]), times),
                    ]
                )
    header = ("dataset", "rows", "by", "rows/s", "peak memory, GB", "times as fast")
    minutes = result["projected_minutes"].items()
    projected = " and ".join(f"{count} minutes ({_dataset(name)})" for name, count in minutes)
    return [
        Heading("Encoding"),
        Text(
            "From synthetic raw text to the encoded dataset: `experiments.prepare` beside FuxiCTR, whole"
            " processes (`benchmarks/encode.py` says what each does)."
        ),
        _provenance(result, {"": result["versions"]}),
        _table(header, rows),
        Text(f"At the pace of the largest size, the full files take {projected}."),
    ]


def inference(result: Result) -> list[Block]:
    """Latency and throughput against the peer."""
    rows = [
        [
            case["what"] if case["what"] == "student" else f"ensemble of {result['students']}",
            str(case["rows"]),
            *(_milliseconds(case[f"{side}_seconds"], 2) for side in ("ours", "peer")),
            *(f"{case[f'{side}_rows_per_second']:,}" for side in ("ours", "peer")),
            f"{case['speedup']:.2f}",
        ]
        for case in result["cases"]
    ]
    header = ("model", "B", "ours, ms", "peer, ms", "ours, rows/s", "peer, rows/s", "times as fast")
    return [
        Heading("Inference"),
        Text(f"From ids to logits in evaluation mode, {_dataset(result['shape'])} shape."),
        _provenance(result, result["versions"]),
        _table(header, rows),
    ]


def startup(result: Result) -> list[Block]:
    """Time to the first step."""
    parts = ("import", "build", "first_step", "total")
    names = {"off": "cache off", "empty": "cache empty", "filled": "cache filled"}
    rows = [
        [names.get(case["kind"], case["kind"]), *(_spread(case[part], 2) for part in parts)]
        for case in result["cases"]
    ]
    return [
        Heading("Time to the first step"),
        Text(
            f"Seconds from the start of a process, {_shape(result)}, with JAX's persistent compilation cache"
            " off, on but empty, and filled by an earlier process. The first step compiles."
        ),
        _provenance(result, result["versions"]),
        _table(("", "imports", "build", "first step", "together"), rows),
    ]


def scale_k(result: Result) -> list[Block]:
    """Growth with K."""
    rows = [
        [
            str(case["students"]),
            f"{case['params']:,}",
            _milliseconds(case["step_seconds"]),
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
        Text(f"EKTF over K MLPs, {_dataset(result['shape'])} shape, a process for each K."),
        _provenance(result, {"": result["versions"]}),
        _table(header, rows),
        *_ratios(result["cases"]),
        Text("A straight line through each, and the exponent of K in a power law through the larger K:"),
        _table(fits, growth),
        Picture("scale_k", _growth(result), "Growth with K: step time, compile time and peak memory."),
    ]


def scale(result: Result) -> list[Block]:
    """Needs and predictions."""
    needed, predicted = [], []
    for case in result["cases"]:
        parameters = 4 * (case["table"] + case["network"])
        needed.append(
            [
                *(_shape(case), f"{case['features']:,}", f"{case['table'] + case['network']:,}"),
                *(_bytes(n) for n in (parameters, 2 * parameters, parameters)),
                _bytes(4 * (case["activations"] + case["lookups"])),
                f"{case['flops'] / 1e9:,.1f}",
                _bytes(case["bytes_moved"]),
            ]
        )
        predicted += [
            [
                *(_shape(case), found["device"], str(found["devices"]), _bytes(found["bytes_per_device"])),
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
            _shape(check),
            f"{1e3 * check['predicted_step_seconds']:.0f}",
            _milliseconds(check["measured_step_seconds"], 0),
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
        _table(
            (
                *("shape", "features", "parameters", "parameters, bytes", "Adam, bytes", "gradients, bytes"),
                *("activations, bytes", "GFLOP per step", "moved per step, bytes"),
            ),
            needed,
        ),
        Heading("Predicted", 3),
        _table(("shape", "device", "devices", "held by each", *phases), predicted),
        _table(("device", "TFLOP/s", "TB/s", "memory, GB", "link, GB/s", "source"), devices),
    ]
    if checks:
        blocks += [
            Heading("Checked", 3),
            Text(
                "The same model with the rates reached on this CPU,"
                f" {here['flops'] / 1e9:,.0f} GFLOP/s in a plain product and"
                f" {here['bandwidth'] / 1e9:,.1f} GB/s in a plain copy:"
            ),
            _provenance(result, {"": result["versions"]}),
            _table(("shape", "predicted, ms", "measured, ms", "measured / predicted"), checks),
        ]
    return blocks


def accelerator(result: Result) -> list[Block]:
    """An accelerator beside a CPU and beside PyTorch on the same device."""
    tests = result["tests"] or {}
    blocks: list[Block] = [
        Heading(f"On {result['device']}"),
        Text(
            "`benchmarks/accelerator.sh`, on one device (docs/devices.md). `tf32` is JAX's default for"
            " float32 products on a GPU. A step's time is that of one in a program of many (`device`), in"
            " a row of calls (`in a row`) and called alone (`alone`). The peer is EKTF in PyTorch on the"
            " same device, eager and by `torch.compile`, its steps in a row. The floor is the least time"
            " for a step's FLOPs and bytes, counted by hand (`benchmarks/scale.py`), at the device's"
            " public rates (`benchmarks/peaks.py`)."
        ),
        _provenance(result, {"": result["versions"]}),
    ]
    if not result["whole"]:
        blocks.append(Text("This run was cut off: what it did not come to is missing."))
    blocks += [Text(f"Missing: {text}") for text in result["late"]]
    blocks += _device_steps(result)
    blocks += _device_correctness(result["correctness"])
    if result["runs"]:
        rows = [_device_run(run) for run in result["runs"]]
        header = ("run", "seconds", "epochs", "samples/s", "waiting for rows", "test AUC", "on a CPU")
        blocks += [Heading("Whole runs", 3), _table(header, rows)]
    if "tests" in tests:
        failed = tests["failures"] + tests["errors"]
        blocks.append(
            Text(
                f"Of {tests['tests']} tests on the device {failed} failed and {tests['skipped']} were skipped"
                f" ({tests['seconds']:.0f} s)."
            )
        )
    if result["profile"] and "kernels" in result["profile"]:
        rows = [[name, f"{ms:.4f}"] for name, ms in result["profile"]["kernels"][:15]]
        title = f"Longest kernels of a step, ML-1M, K=10 ({result['profile']['all_ms']:.3f} ms in all)"
        blocks += [Heading(title, 3), _table(("kernel", "ms a step"), rows)]
    return blocks


def _device_steps(result: Result) -> list[Block]:
    """Ours by case, precision and stack, the peer's beside the same case and precision."""
    peers: dict[tuple[str, str], dict[str, Result]] = {}
    for step in result["steps"]:
        if step["side"] == "peer" and "error" not in step:
            peers.setdefault((step["case"], step["precision"]), {})[step["variant"]] = step
    rows = []
    for step in result["steps"]:
        if step["side"] != "ours":
            continue
        shape, _, students = step["case"].partition(":")
        about = [_shape({"shape": shape, "students": students}), step["precision"], step["variant"]]
        if "error" in step:
            rows.append([*about, step["error"][:80], *[""] * 7])
            continue
        own, floor = step["row_seconds"]["median"], step.get("floor_seconds")
        device = step["device_seconds"]["median"]
        others = peers.get((step["case"], step["precision"]), {})
        compared = [
            f"{1e3 * others[kind]['row_seconds']:,.3f} ({others[kind]['row_seconds'] / own:.2f})"
            if kind in others
            else ""
            for kind in ("eager", "compiled")
        ]
        flops = step.get("flops", step["compiler_flops"])
        rows.append(
            [
                *about,
                *(f"{1e3 * seconds:,.3f}" for seconds in (device, own, step["seconds"]["median"])),
                f"{step['batch_size'] / device:,.0f}",
                *compared,
                "" if flops is None else f"{flops / device / 1e12:,.1f}",
                "" if floor is None else f"{floor / device:.0%} ({step['bound_by']})",
            ]
        )
    header = (
        *("shape", "precision", "stack", "device, ms", "in a row, ms", "alone, ms", "samples/s"),
        *("eager, ms (times ours)", "compiled, ms (times ours)", "TFLOP/s", "of the floor's speed"),
    )
    blocks: list[Block] = [Heading("Steps", 3), _table(header, rows)]
    rates = result["rates"]
    if rates and "bytes" in rates:
        reached = ", ".join(
            f"{rates[name] / 1e12:,.1f} in {name}" for name in ("float32", "tf32", "bfloat16")
        )
        text = (
            f"Reached here: TFLOP/s of a plain product {reached}; a copy {rates['bytes'] / 1e12:,.2f} TB/s."
        )
        if result["peak"]:
            public = ", ".join(
                f"{rate / 1e12:,.1f} in {name}" for name, rate in result["peak"]["flops"].items()
            )
            text += f" Public rates: {public}; {result['peak']['bandwidth'] / 1e12:,.2f} TB/s"
            text += f" ({result['peak']['source']})."
        blocks.append(Text(text))
    return blocks


def _device_correctness(cases: Sequence[Result]) -> list[Block]:
    """How far the device is from the CPU."""
    measured = [case for case in cases if "error" not in case]
    if not cases:
        return []
    keys = ("losses", "gradients", "logits", "logloss", "drift")
    rows = [
        [case["case"], *(f"{case[key]:.1e}" for key in keys), "yes" if case["passed"] else "no"]
        for case in measured
    ] + [[case["case"], case["error"][:80], *[""] * 4, "no"] for case in cases if "error" in case]
    return [
        Heading("Correctness", 3),
        Text(
            "Each of twenty steps on the device beside the same step on the CPU, from the same state, in"
            " float32 (matmul precision highest): the largest relative gap of the losses, that of the"
            " median step's gradient, of the logits and the logloss after the last; 1e-5 passes. `drift`"
            " is the gap of the losses where the device goes on from its own state, so that rounding grows"
            " from step to step."
        ),
        _table(("model", *keys, "passes"), rows),
    ]


def _device_run(run: Result) -> list[str]:
    found = run.get("result")
    if found is None:
        return [run.get("run", ""), "", "", "", "", run.get("error", "")[:80], ""]
    cpu = f"{run['cpu']['test']['ensemble']['auc']:.4f}" if "cpu" in run else ""
    return [
        *(run["run"], f"{run['seconds']:.0f}", str(found["epochs"])),
        *(f"{found['train_samples_per_second']:,.0f}", f"{found['input_wait']:.0%}"),
        *(f"{found['test']['ensemble']['auc']:.4f}", cpu),
    ]


SECTIONS = {
    "train": train,
    "epoch": epoch,
    "students": students,
    "evaluate": evaluate,
    "encode": encode,
    "inference": inference,
    "startup": startup,
    "scale_k": scale_k,
    "scale": scale,
}


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


def _growth(result: Result) -> Figure:
    """Three panels over K, both axes logarithmic, with what was measured and the straight-line fit."""
    panels = {
        "step_seconds": "seconds per step",
        "compile_seconds": "seconds to compile",
        "peak_mib": "peak memory, MiB",
    }
    figure = Figure(figsize=(8.5, 2.9), layout="constrained")
    students = [case["students"] for case in result["cases"]]
    for axes, (key, label) in zip(figure.subplots(1, 3), panels.items(), strict=True):
        values = [
            case[key]["median"] if isinstance(case[key], dict) else case[key] for case in result["cases"]
        ]
        fit = result["growth"][key]
        line = [fit["constant"] + fit["per_student"] * k for k in students]
        axes.plot(students, line, color="0.6", linestyle="--", label="straight line")
        axes.plot(students, values, color="0.1", marker="o", linestyle="", markersize=4, label="measured")
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_xlabel("K")
        axes.set_title(label, fontsize=9)
        axes.set_xticks(students, [str(k) for k in students])
        axes.minorticks_off()
        axes.grid(color="0.9")
        axes.legend(fontsize=7, frameon=False)
    return figure


def _bars(labels: Sequence[str], values: Sequence[float], title: str) -> Figure:
    """Ours as horizontal bars, with the peer's 1 as a line."""
    figure = Figure(figsize=(6.5, 0.8 + 0.35 * len(labels)), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(labels, values, color="0.75", height=0.6)
    axes.bar_label(bars, fmt="%.2f", padding=3, fontsize=8)
    axes.axvline(1, color="0.1", linestyle="--", linewidth=1)
    axes.set_xlim(0, 1.15 * max(*values, 1))
    axes.invert_yaxis()
    axes.set_title(title, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _provenance(result: Result, versions: dict[str, dict[str, str]]) -> Text:
    """The command, the machine and the versions of both sides."""
    machine = result["machine"]
    sides = [
        f"{side + ': ' if side else ''}{', '.join(f'{name} {version}' for name, version in found.items())}"
        for side, found in versions.items()
    ]
    command = f"`{result['command']}`. " if "command" in result else ""
    memory, load = machine["memory_gib"], machine["load_before"]
    where = f"{machine['cpu']}, {machine['cores']} cores, {memory} GiB, load {load}"
    return Text(f"{command}{where}. {'; '.join(sides)}.")


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    return Table("", tuple(header), tuple(tuple(map(Cell, row)) for row in rows))


def _dataset(shape: str) -> str:
    return {"ml1m": "ML-1M", "criteo": "Criteo", "kdd12": "KDD12", "ml1m_latest": "ML-1M, EKTF_Latest"}.get(
        shape, shape
    )


def _shape(case: Result) -> str:
    return f"{_dataset(case['shape'])}, K={case['students']}"


def _spread(found: dict[str, float], digits: int = 1) -> str:
    """Median (smallest to largest)."""
    median, low, high = (f"{found[key]:,.{digits}f}" for key in ("median", "min", "max"))
    return f"{median} ({low} to {high})"


def _seconds(found: dict[str, float]) -> str:
    return _spread(found, 2)


def _times(found: dict[str, float]) -> str:
    return _spread(found, 2)


def _milliseconds(found: dict[str, float], digits: int = 1) -> str:
    return _spread({key: 1e3 * found[key] for key in ("median", "min", "max")}, digits)


def _percent(found: dict[str, float], digits: int) -> str:
    median, low, high = (f"{found[key]:.{digits}%}" for key in ("median", "min", "max"))
    return f"{median} ({low} to {high})"


def _bytes(number: float) -> str:
    """In the largest unit that leaves at least 1."""
    for unit, size in (("TB", 1e12), ("GB", 1e9)):
        if number >= size:
            return f"{number / size:,.2f} {unit}"
    return f"{number / 1e6:,.1f} MB"


def main(argv: list[str]) -> None:
    """Write the page."""
    del argv
    blocks: list[Block] = [
        Text(
            "Made by `python -m benchmarks.page` from the JSON files beside it. A figure is a median"
            " (smallest to largest); the two sides took turns on the same machine. `load` is what else ran on"
            " it when a benchmark started."
        )
    ]
    for name, section in SECTIONS.items():
        path = common.RESULTS / f"{name}.json"
        if path.exists():
            blocks += section(json.loads(path.read_text(encoding="utf-8")))
    for path in sorted(common.RESULTS.glob("accelerator_*.json")):
        blocks += accelerator(json.loads(path.read_text(encoding="utf-8")))
    for block in blocks:
        if isinstance(block, Picture):
            figures.save(block.figure, common.RESULTS / block.name)
    (common.RESULTS / "README.md").write_text(render.markdown("Benchmarks", blocks), encoding="utf-8")


if __name__ == "__main__":
    app.run(main)
