"""EKTF in PyTorch, as its authors write it with FuxiCTR: a loop over students, a double loop over pairs.

Reads one JSON object, a line of stdin, as `benchmarks.common.peer` makes it, and prints one. It needs torch
and nothing of this repository, so that any interpreter can run it; whole epochs and runs (`epoch`, `fit`)
read their rows with FuxiCTR's loader (`pip install ektf-jax[peers]`). Layers, penalty, clipping and Adam
are those of FuxiCTR 2.3.10 in plain torch: from the same weights and seeds, with dropout, five steps of
three MLPs end in the same bits as FuxiCTR's, those of EKTF_Latest in losses that differ by 1e-5; neither
side's step takes longer.
"""

import copy
import json
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

IMPORTED_AT = time.time()

Batch = dict[str, Tensor]


class Embedding(nn.Module):
    """A table per field; a field of many slots is the mean of those that are filled. -> [B, F, D]."""

    def __init__(self, fields: list[tuple[str, int, int]], dim: int):
        super().__init__()
        self.slots = {name: slots for name, _, slots in fields}
        self.tables = nn.ModuleDict(
            {name: nn.Embedding(size, dim, padding_idx=0) for name, size, _ in fields}
        )

    def init_weights(self) -> None:
        for table in self.tables.values():
            nn.init.normal_(table.weight[1:], std=1e-4)

    def forward(self, batch: Batch) -> Tensor:
        found = []
        for name, slots in self.slots.items():
            vectors = self.tables[name](batch[name].long())
            if slots > 1:
                filled = (vectors.sum(dim=-1) != 0).float().sum(dim=-1, keepdim=True)
                vectors = vectors.sum(dim=1) / (filled + 1e-12)
            found.append(vectors)
        return torch.stack(found, dim=1)


class MLP(nn.Module):
    """Linear, BatchNorm, ReLU and dropout per hidden layer over flat embeddings."""

    def __init__(
        self,
        fields: int,
        dim: int,
        *,
        hidden_units: list[int],
        dropout: float,
        batch_norm: bool,
        extra: int = 0,
    ):
        super().__init__()
        widths = [fields * dim + extra, *hidden_units]
        self.linears = nn.ModuleList(map(nn.Linear, widths, hidden_units))
        self.norms = nn.ModuleList(nn.BatchNorm1d(n) if batch_norm else nn.Identity() for n in hidden_units)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(widths[-1], 1)

    def tower(self, x: Tensor) -> Tensor:
        for linear, norm in zip(self.linears, self.norms):  # noqa: B905 (equal by construction)
            x = self.dropout(functional.relu(norm(linear(x))))
        return self.output(x)

    def forward(self, embeddings: Tensor) -> Tensor:
        return self.tower(embeddings.flatten(start_dim=1))


class PNN(MLP):
    """An MLP over embeddings and their inner products."""

    def __init__(self, fields: int, dim: int, **options: Any):
        super().__init__(fields, dim, extra=fields * (fields - 1) // 2, **options)
        self.register_buffer("pairs", torch.triu_indices(fields, fields, 1), persistent=False)

    def forward(self, embeddings: Tensor) -> Tensor:
        products = torch.bmm(embeddings, embeddings.transpose(1, 2))
        products = products[:, self.pairs[0], self.pairs[1]]
        return self.tower(torch.cat([embeddings.flatten(start_dim=1), products], dim=1))


class FINAL(nn.Module):
    """FINAL(1B): field gates, then layers that multiply one half of their units with the other."""

    def __init__(
        self,
        fields: int,
        dim: int,
        *,
        hidden_units: list[int],
        dropout: float,
        batch_norm: bool,
        gate_init: str = "ones",
    ):
        super().__init__()
        self.gate = nn.Linear(fields, fields)
        self.gate_init = gate_init
        widths = [2 * fields * dim, *hidden_units]
        self.linears = nn.ModuleList(map(nn.Linear, widths, hidden_units))
        self.norms = nn.ModuleList(nn.BatchNorm1d(n) if batch_norm else nn.Identity() for n in hidden_units)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden_units[-1], 1)

    def init_weights(self) -> None:
        if self.gate_init == "ones":
            nn.init.zeros_(self.gate.weight)
            nn.init.ones_(self.gate.bias)

    def forward(self, embeddings: Tensor) -> Tensor:
        gates = self.gate(embeddings.transpose(1, 2)).transpose(1, 2)
        x = torch.cat([embeddings, embeddings * gates], dim=1).flatten(start_dim=1)
        for linear, norm in zip(self.linears, self.norms):  # noqa: B905 (equal by construction)
            kept, other = linear(x).chunk(2, dim=1)
            x = self.dropout(functional.relu(norm(torch.cat([kept, other * kept], dim=1))))
        return self.output(x)


class ECN(nn.Module):
    """Exponential cross layers with a self-mask; first halves of all embeddings before the second ones."""

    def __init__(self, fields: int, dim: int, *, num_cross_layers: int, dropout: float, batch_norm: bool):
        super().__init__()
        width = fields * dim
        layers = range(num_cross_layers)
        self.linears = nn.ModuleList(nn.Linear(width, width // 2, bias=False) for _ in layers)
        self.biases = nn.ParameterList(nn.Parameter(torch.rand(width)) for _ in layers)
        self.batch_norms = nn.ModuleList(nn.BatchNorm1d(1) if batch_norm else nn.Identity() for _ in layers)
        self.layer_norms = nn.ModuleList(nn.LayerNorm(width // 2) for _ in layers)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(width, 1)

    def forward(self, embeddings: Tensor) -> Tensor:
        first, second = embeddings.tensor_split(2, dim=2)
        x = torch.cat([first.flatten(start_dim=1), second.flatten(start_dim=1)], dim=1)
        layers = zip(self.linears, self.biases, self.batch_norms, self.layer_norms)  # noqa: B905
        for linear, bias, batch_norm, layer_norm in layers:
            h = batch_norm(linear(x).unsqueeze(1)).squeeze(1)
            h = torch.cat([h, h * functional.relu(layer_norm(h))], dim=1)
            x = self.dropout(x * (h + bias) + x)
        return self.output(x)


STUDENTS = {"mlp": MLP, "pnn": PNN, "final": FINAL, "ecn": ECN}


class EKTF(nn.Module):
    """Students over one embedding, trained by Eq. 6 with FuxiCTR's training step."""

    def __init__(self, task: dict[str, Any]):
        super().__init__()
        self.embedding = Embedding(task["fields"], task["dim"])
        self.students = nn.ModuleList(
            STUDENTS[options["name"]](
                len(task["fields"]), task["dim"], **{k: v for k, v in options.items() if k != "name"}
            )
            for options in task["students"]
        )
        self.l2, self.clip_norm = task["l2"], task["clip_norm"]
        self.device = torch.device(task.get("device", "cpu"))
        self.apply(initialise)
        self.to(self.device)
        # fused: one kernel for all parameters, for the compiled variants; FuxiCTR's is torch's default.
        fused = True if task.get("compile") else None
        self.optimizer = torch.optim.Adam(self.parameters(), lr=task["learning_rate"], fused=fused)

    def forward(self, batch: Batch) -> tuple[Tensor, list[Tensor]]:
        """Probabilities of the ensemble, [B, 1], and logits of each student, [B, 1]."""
        embeddings = self.embedding(batch)
        logits = [student(embeddings).float() for student in self.students]
        return torch.sigmoid(torch.cat(logits, dim=1).mean(dim=1, keepdim=True)), logits

    def criterion(self, ensemble: Tensor, logits: list[Tensor], labels: Tensor) -> Tensor:
        """Eq. 6, and the penalty on every table."""
        y_true = labels.float().view(-1, 1)
        predictions = [torch.sigmoid(logit) for logit in logits]
        teacher = ensemble.detach()
        ctr = torch.stack([functional.binary_cross_entropy(p, y_true) for p in predictions]).mean()
        scores = torch.stack([(1 - (y_true - p).abs()).mean() for p in predictions])
        gaps = torch.stack([functional.mse_loss(p, teacher) for p in predictions])
        loss = ctr + (functional.softmin(scores, dim=0) * gaps).sum()
        mutual = []
        for k, student in enumerate(predictions):
            others = [j for j in range(len(predictions)) if j != k]
            if others:
                distances = [functional.mse_loss(student, predictions[j].detach()) for j in others]
                attention = torch.softmax(torch.stack([scores[j] - scores[k] for j in others]), dim=0)
                mutual.append((attention * torch.stack(distances)).sum())
        if mutual:
            loss = loss + torch.stack(mutual).mean()
        return loss + sum(
            self.l2 / 2 * torch.norm(table.weight, 2) ** 2 for table in self.embedding.tables.values()
        )

    def loss(self, batch: Batch) -> Tensor:
        """What a training step makes small."""
        ensemble, logits = self(batch)
        return self.criterion(ensemble, logits, batch["label"])

    def train_step(self, batch: Batch, loss_of: Callable[[Batch], Tensor] | None = None) -> Tensor:
        """One step on a batch on the device; `loss_of` is `loss` or a compiled form of it."""
        self.optimizer.zero_grad()
        loss = (loss_of or self.loss)(batch)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters(), self.clip_norm)
        self.optimizer.step()
        return loss

    def train_epoch(self, loader: Any) -> None:
        """One step for each batch of FuxiCTR's loader, each waited for, as FuxiCTR does."""
        self.train()
        for batch in loader:
            self.train_step({name: column.to(self.device) for name, column in batch.items()}).item()


def initialise(module: nn.Module) -> None:
    """FuxiCTR's: Xavier's normal for linear layers, zero bias; or what the module says."""
    if type(module) is nn.Linear:
        nn.init.xavier_normal_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    if hasattr(module, "init_weights"):
        with torch.no_grad():
            module.init_weights()


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


def time_predictions(model: EKTF, task: dict[str, Any]) -> dict[str, Any]:
    """Seconds of predictions for each batch size: of the ensemble, and of its first student alone."""
    model.eval()
    alone: dict[int, list[float]] = {}
    everything: dict[int, list[float]] = {}
    with torch.no_grad():
        for rows in task["batch_sizes"]:
            batch = random_batch(model, task, rows)

            def one(batch: Batch = batch) -> None:
                model.students[0](model.embedding(batch))

            def ensemble(batch: Batch = batch) -> None:
                model(batch)

            for run, into in ((one, alone), (ensemble, everything)):
                for _ in range(3):
                    run()
                into[rows] = [clock(run, model) for _ in range(task["calls"])]
    return {"student": alone, "ensemble": everything}


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


def main() -> None:
    """Do one task."""
    task = json.loads(sys.stdin.readline())
    torch.manual_seed(task.get("seed", 0))
    model = EKTF(task)
    built_at = time.time()
    tasks = {
        **{"step": time_steps, "variants": time_variants, "epoch": time_epochs, "predict": time_predictions},
        **{"trace": trace, "fit": fit},
    }
    result = tasks[task["task"]](model, task)
    result |= {"imported_at": IMPORTED_AT, "built_at": built_at}
    result["params"] = sum(p.numel() for p in model.parameters() if p.requires_grad)
    result["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    result["threads"] = torch.get_num_threads()
    result["versions"] = {"python": platform.python_version(), "torch": torch.__version__}
    if "fuxictr" in sys.modules:
        result["versions"]["fuxictr"] = sys.modules["fuxictr"].__version__
    print(json.dumps(result))


if __name__ == "__main__":
    main()
