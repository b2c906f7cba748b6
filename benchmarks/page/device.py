"""The section of an accelerator, beside a CPU and beside PyTorch on the same device."""

from collections.abc import Sequence

from benchmarks import common
from benchmarks.page import cells
from benchmarks.page.cells import Result
from ektf_jax.report.render import Block, Heading, Text


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
        cells.provenance(result, {"": result["versions"]}),
    ]
    blocks += [Text(text) for text in result["notes"]]
    if result["missing"]:
        blocks.append(Text(f"Not measured yet: {', '.join(result['missing'])}."))
    if result["steps"]:
        blocks += _device_steps(result)
    blocks += _device_correctness(result["correctness"])
    if result.get("residence"):
        places = [_device_rows(found) for found in result["residence"]]
        columns = ("shape", "rows", "samples/s", "waiting for rows")
        text = "`data.residence` in the loop of `experiments.train`, random rows, evaluations left out."
        blocks += [Heading("Where the rows lie", 3), Text(text), cells.table(columns, places)]
    if result.get("together"):
        rows = [_device_together(found) for found in result["together"]]
        together = ("shape", "runs", "of them as one", "samples/s of all", "seconds to all results")
        text = (
            "Runs that differ in their seed alone (`sweep --together`), four epochs, one process: alone one"
            " after another, or on the same rows and with a step compiled once, in turns or as one. Samples/s"
            " leave out compilation and, together, evaluation and what is written."
        )
        blocks += [Heading("Runs together", 3), Text(text), cells.table(together, rows)]
    if result["runs"]:
        rows = [_device_run(run) for run in result["runs"]]
        header = ("run", "seconds", "epochs", "samples/s", "waiting for rows", "test AUC", "on a CPU")
        blocks += [Heading("Whole runs", 3), cells.table(header, rows)]
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
        blocks += [Heading(title, 3), cells.table(("kernel", "ms a step"), rows)]
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
        about = [_shape(step["case"]), step["precision"], step["variant"]]
        if "error" in step:
            rows.append([*about, step["error"][:80], *[""] * 7])
            continue
        own, floor = step["row_seconds"]["median"], step.get("floor_seconds")
        device = step["device_seconds"]["median"]
        others = peers.get((step["case"], step["precision"]), {})
        compared = [_peer_step(others[kind], own) if kind in others else "" for kind in ("eager", "compiled")]
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
    blocks: list[Block] = [Heading("Steps", 3), cells.table(header, rows)]
    times = [
        f"{step['row_seconds']['median'] / step['floor_seconds']:.1f} ({_shape(step['case'])})"
        for step in result["steps"]
        if step["variant"] == "vmap" and step["precision"] == "tf32" and "floor_seconds" in step
    ]
    if times:
        blocks.append(
            Text(
                f'A step takes {", ".join(times)} times the floor, which is what "Scale on paper" predicts:'
                " its predictions for this device are to be multiplied by as much."
            )
        )
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


def _shape(case: str) -> str:
    shape, students = common.split_case(case)
    return cells.shape({"shape": shape, "students": students})


def _peer_step(step: Result, own: float) -> str:
    """In a row of calls, and how many times ours; of that, where it is known, its kernels."""
    row, kernels = step["row_seconds"], step.get("kernel_seconds")
    return f"{1e3 * row:,.3f} ({row / own:.2f})" + (f", kernels {1e3 * kernels:,.3f}" if kernels else "")


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
        cells.table(("model", *keys, "passes"), rows),
    ]


def _device_rows(found: Result) -> list[str]:
    if "error" in found:
        return [found.get("case", ""), "", found["error"][:80], ""]
    return [
        *(_shape(found["case"]), found["rows"]),
        *(f"{found['samples_per_second']:,.0f}", f"{found['input_wait']:.0%}"),
    ]


def _device_together(found: Result) -> list[str]:
    if "error" in found:
        return [found.get("case", ""), "", found["error"][:80], "", ""]
    as_one = {0: "alone", 1: "in turns"}.get(found["as_one"], str(found["as_one"]))
    return [
        *(_shape(found["case"]), str(found["runs"]), as_one),
        *(f"{found['samples_per_second']:,.0f}", f"{found['seconds']:.1f}"),
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
