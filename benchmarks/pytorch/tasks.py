"""What the peer can be asked to do with its model."""

import contextlib
import copy
import functools
import importlib.util
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .model import EKTF, Batch


def feature_map(fields: list[tuple[str, int, int]]) -> Any:
    """FuxiCTR's description of (name, vocabulary, slots), which its loader reads rows by."""
    from fuxictr.features import FeatureMap

    found = FeatureMap("benchmark", "")
    for name, size, slots in fields:
        spec = {"source": "", "type": "categorical", "padding_idx": 0, "vocab_size": size}
        found.features[name] = spec | ({"type": "sequence", "max_len": slots} if slots > 1 else {})
    found.labels = ["label"]
    found.num_fields = len(fields)
    found.set_column_index()
    return found


def loaders(task: dict[str, Any], **options: Any) -> tuple[Any, ...]:
    """FuxiCTR's loaders of what `options` name."""
    from fuxictr.pytorch.dataloaders import RankDataLoader

    found: tuple[Any, ...] = RankDataLoader(
        feature_map(task["fields"]), batch_size=task["batch_size"], shuffle=True, **options
    )
    return found


def random_columns(task: dict[str, Any], rows: int) -> dict[str, Any]:
    """An array per field, int32 [rows] or [rows, slots], and the labels, float32 [rows]."""
    rng = np.random.default_rng(0)
    columns = {
        name: rng.integers(1, size, (rows, slots) if slots > 1 else rows, dtype=np.int32)
        for name, size, slots in task["fields"]
    }
    return columns | {"label": rng.integers(0, 2, rows).astype(np.float32)}


def random_batch(model: EKTF, task: dict[str, Any], rows: int) -> Batch:
    """`random_columns` on the model's device."""
    return {name: torch.from_numpy(c).to(model.device) for name, c in random_columns(task, rows).items()}


def wait(model: EKTF) -> None:
    """Until the device has done what it was given."""
    if model.device.type == "cuda":
        torch.cuda.synchronize()


def make_step(model: EKTF, task: dict[str, Any], precision: str) -> Callable[[], Tensor]:
    """A training step on one batch in float32, tf32 or bfloat16 (autocast), compiled if the task says so."""
    batch = random_batch(model, task, task["batch_size"])

    def loss(batch: Batch) -> Tensor:
        with torch.autocast(model.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            ensemble, logits = model(batch)
        return model.criterion(ensemble, logits, batch["label"])

    loss_of = torch.compile(loss) if task.get("compile") else loss

    def step() -> Tensor:
        torch.set_float32_matmul_precision("highest" if precision == "float32" else "high")
        return model.train_step(batch, loss_of)

    return step


def time_steps(model: EKTF, task: dict[str, Any]) -> dict[str, Any]:
    """Seconds of each of `steps` training steps on one batch, and of the first, which warms up."""
    model.train()
    step = make_step(model, task, "float32")
    first, *others = [clock(step, model) for _ in range(1 + task["steps"])]
    return {"seconds": others, "first_step_seconds": first}


def time_variants(model: EKTF, task: dict[str, Any]) -> dict[str, Any]:
    """For each of `precisions`, once a line of stdin names it: seconds of single steps and of steps in a row.

    All of them are ready, and one line said so, before the first is timed. `kernel_seconds` is what a step
    keeps a GPU busy.
    """
    model.train()
    started = time.perf_counter()
    steps = {precision: make_step(model, task, precision) for precision in task["precisions"]}
    for step in steps.values():
        for _ in range(3):
            step()
    wait(model)
    print(json.dumps({"ready": time.perf_counter() - started}), flush=True)
    for line in sys.stdin:
        try:
            found = time_variant(steps[line.strip()], model, task)
        except Exception as error:  # the others count all the same
            found = {"error": f"{type(error).__name__}: {error}"[:2000]}
        print(json.dumps(found), flush=True)
    return {}


def time_variant(step: Callable[[], Tensor], model: EKTF, task: dict[str, Any]) -> dict[str, Any]:
    """At most `steps` steps one by one, and as many in a row; fewer if they take longer than `seconds`."""
    count = max(3, min(task["steps"], int(task["seconds"] / clock(step, model))))

    def row() -> None:
        for _ in range(count):
            step()

    return {
        "seconds": [clock(step, model) for _ in range(count)],
        "row_seconds": clock(row, model) / count,
        "kernel_seconds": kernel_seconds(step, model),
        "loss": step().item(),
    }


def kernel_seconds(step: Callable[[], Tensor], model: EKTF, count: int = 3) -> float | None:
    """Seconds that kernels of a step run, by PyTorch's profiler; None without a GPU."""
    if model.device.type != "cuda":
        return None
    activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        for _ in range(count):
            step()
        wait(model)
    return sum(event.self_device_time_total for event in profile.key_averages()) / 1e6 / count


def time_epochs(model: EKTF, task: dict[str, Any]) -> dict[str, Any]:
    """Seconds of each of `epochs` epochs over `rows` rows by FuxiCTR's loader, after one to warm up."""
    with tempfile.TemporaryDirectory() as directory:
        path = str(Path(directory) / "train.npz")
        np.savez(path, **random_columns(task, task["rows"]))
        loader, _ = loaders(task, stage="train", train_data=path, num_workers=task["workers"])
        seconds = [clock(lambda: model.train_epoch(loader), model) for _ in range(1 + task["epochs"])]
    return {"seconds": seconds[1:]}


def fit(model: EKTF, task: dict[str, Any]) -> dict[str, Any]:
    """Train to the end by FuxiCTR's rules on `files` (npz per split); metrics of the best epoch.

    After each epoch without a better validation AUC the learning rate falls to a tenth, at least 1e-6; two in
    a row end the run.
    """
    train, valid, test = loaders(
        task, stage="both", **{f"{split}_data": path for split, path in task["files"].items()}
    )
    started = time.perf_counter()
    curve: list[float] = []
    best, weights, bad = -np.inf, copy.deepcopy(model.state_dict()), 0
    for _ in range(task["epochs"]):
        model.train_epoch(train)
        curve.append(metrics(model, valid)["ensemble"]["auc"])
        if curve[-1] >= best + 1e-6:
            best, weights, bad = curve[-1], copy.deepcopy(model.state_dict()), 0
            continue
        bad += 1
        for group in model.optimizer.param_groups:
            group["lr"] = max(group["lr"] / 10, 1e-6)
        if bad == 2:
            break
    model.load_state_dict(weights)
    seconds = time.perf_counter() - started
    found = {
        "curve": curve,
        "epochs": len(curve),
        "best_epoch": 1 + max(range(len(curve)), key=lambda epoch: curve[epoch]),
        "seconds": seconds,
    }
    return found | {"valid": metrics(model, valid), "test": metrics(model, test)}


def metrics(model: EKTF, loader: Any) -> dict[str, Any]:
    """AUC and logloss of the ensemble and of each student over a split."""
    from fuxictr.metrics import evaluate_metrics

    model.eval()
    labels, parts = [], []
    with torch.no_grad():
        for batch in loader:
            ensemble, logits = model({name: column.to(model.device) for name, column in batch.items()})
            predictions = torch.cat([torch.sigmoid(torch.cat(logits, dim=1)), ensemble], dim=1)
            parts.append(predictions.double().cpu().numpy())
            labels.append(batch["label"].float().double().numpy().reshape(-1))
    truth = np.concatenate(labels)
    measured = []
    for predictions in np.concatenate(parts).T:
        scores = evaluate_metrics(truth, predictions, ["AUC", "logloss"])
        measured.append({"auc": float(scores["AUC"]), "logloss": float(scores["logloss"])})
    *students, ensemble = measured
    return {"ensemble": ensemble, "students": students}


class _First(torch.nn.Module):
    """The first student of a model alone."""

    def __init__(self, model: EKTF):
        super().__init__()
        self.embedding, self.student = model.embedding, model.students[0]

    def forward(self, batch: Batch) -> Tensor:
        found: Tensor = self.student(self.embedding(batch))
        return found


def time_predictions(model: EKTF, task: dict[str, Any]) -> dict[str, Any]:
    """Seconds of predictions by number of rows, as many as `calls` says; `what` is student or ensemble.

    As it is (`eager`), and by onnxruntime after `torch.onnx.export` where that is installed (`onnx`).
    """
    model.eval()
    module = _First(model).eval() if task["what"] == "student" else model
    calls: dict[str, Callable[[Batch], Any]] = {"eager": module}
    if all(map(importlib.util.find_spec, ("onnxscript", "onnxruntime"))):
        calls["onnx"] = as_onnx(module, model, task)
    found: dict[str, dict[int, list[float]]] = {how: {} for how in calls}
    with torch.no_grad():
        for rows, count in task["calls"].items():
            batch = random_batch(model, task, int(rows))
            for how, call in calls.items():
                run = functools.partial(call, batch)
                for _ in range(3):
                    run()
                found[how][int(rows)] = [clock(run, model) for _ in range(count)]
    return found


def as_onnx(module: torch.nn.Module, model: EKTF, task: dict[str, Any]) -> Callable[[Batch], Any]:
    """A module of a batch of any number of rows, run by onnxruntime on the CPU; checked on one batch."""
    import onnxruntime

    batch = random_batch(model, task, 8)
    rows = {name: {0: torch.export.Dim("rows")} for name in batch}
    with tempfile.TemporaryDirectory() as directory, contextlib.redirect_stdout(sys.stderr):
        file = str(Path(directory) / "model.onnx")
        torch.onnx.export(
            module,
            kwargs={"batch": batch},  # a dict at the end of `args` would be taken for these
            f=file,
            input_names=list(batch),
            dynamic_shapes={"batch": rows},
            external_data=False,
            verbose=False,
        )
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]

    def call(batch: Batch) -> Any:
        return session.run(None, {name: batch[name].numpy() for name in names})

    expected = module(batch)
    first = expected[0] if isinstance(expected, tuple) else expected
    np.testing.assert_allclose(call(batch)[0], first.detach().numpy(), rtol=1e-4, atol=1e-6)
    return call


def trace(model: EKTF, task: dict[str, Any]) -> dict[str, Any]:
    """The losses of `steps` steps on one batch, for a test; `file` gets the batch and the first weights."""
    columns = random_columns(task, task["batch_size"])
    arrays: dict[str, Any] = {name: p.detach().cpu().numpy() for name, p in model.named_parameters()}
    np.savez(task["file"], **arrays, **{f"batch/{name}": column for name, column in columns.items()})
    model.train()
    step = make_step(model, task, "float32")
    return {"losses": [step().item() for _ in range(task["steps"])]}


def clock(run: Callable[[], Any], model: EKTF) -> float:
    """Seconds of a call and of what it gave the device to do."""
    wait(model)
    started = time.perf_counter()
    run()
    wait(model)
    return time.perf_counter() - started


TASKS: dict[str, Callable[[EKTF, dict[str, Any]], dict[str, Any]]] = {
    "step": time_steps,
    "variants": time_variants,
    "epoch": time_epochs,
    "predict": time_predictions,
    "trace": trace,
    "fit": fit,
}
