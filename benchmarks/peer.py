"""EKTF in PyTorch with FuxiCTR, as its authors write it: a loop over students, a double loop over pairs.

Reads one JSON object from stdin, as `benchmarks.common.peer` makes it, and prints one. It needs torch and
fuxictr (`pip install ektf-jax[peers]`) and nothing of this repository, so that any interpreter can run it.
"""

import json
import math
import platform
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import fuxictr
import numpy as np
import torch
from fuxictr.features import FeatureMap
from fuxictr.pytorch.dataloaders import RankDataLoader
from fuxictr.pytorch.layers import FeatureEmbedding, InnerProductInteraction, MLP_Block
from fuxictr.pytorch.models import BaseModel
from torch import Tensor, nn
from torch.nn import functional

IMPORTED_AT = time.time()


class MLP(nn.Module):
    """FuxiCTR's MLP_Block over flat embeddings."""

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
        self.mlp = MLP_Block(
            fields * dim + extra, hidden_units, "ReLU", 1, dropout_rates=dropout, batch_norm=batch_norm
        )

    def forward(self, embeddings: Tensor) -> Tensor:
        return self.mlp(embeddings.flatten(start_dim=1))


class PNN(MLP):
    """An MLP over embeddings and their inner products."""

    def __init__(self, fields: int, dim: int, **options: Any):
        super().__init__(fields, dim, extra=fields * (fields - 1) // 2, **options)
        self.products = InnerProductInteraction(fields, output="inner_product")

    def forward(self, embeddings: Tensor) -> Tensor:
        return self.mlp(torch.cat([embeddings.flatten(start_dim=1), self.products(embeddings)], dim=1))


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


class EKTF(BaseModel):
    """Students over one FeatureEmbedding, trained by Eq. 6 and FuxiCTR's own training step."""

    def __init__(self, feature_map: FeatureMap, task: dict[str, Any]):
        super().__init__(
            feature_map,
            embedding_regularizer=task["l2"],
            verbose=0,
            model_root="",
            metrics=["AUC", "logloss"],
        )
        self.embedding_layer = FeatureEmbedding(feature_map, task["dim"])
        self.students = nn.ModuleList(
            STUDENTS[options.pop("name")](len(task["fields"]), task["dim"], **options)
            for options in task["students"]
        )
        self._max_gradient_norm = task["clip_norm"]
        self._eval_steps: float | None = math.inf  # none within an epoch
        self._total_steps = 0
        self._stop_training = False
        self.curve: list[float] = []
        self.compile("adam", "binary_crossentropy", task["learning_rate"])
        self.reset_parameters()
        self.model_to_device()

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Any]:
        embeddings = self.embedding_layer(self.get_inputs(inputs))
        logits = [student(embeddings) for student in self.students]
        ensemble = torch.cat(logits, dim=1).mean(dim=1, keepdim=True)
        return {"y_pred": self.output_activation(ensemble), "logits": logits}

    def add_loss(self, return_dict: dict[str, Any], y_true: Tensor) -> Tensor:
        predictions = [self.output_activation(logit) for logit in return_dict["logits"]]
        teacher = return_dict["y_pred"].detach()
        ctr = torch.stack([self.loss_fn(p, y_true) for p in predictions]).mean()
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
        return loss + torch.stack(mutual).mean() if mutual else loss

    def checkpoint_and_earlystop(self, logs: dict[str, float], min_delta: float = 1e-6) -> None:
        self.curve.append(logs["AUC"])
        super().checkpoint_and_earlystop(logs, min_delta)


def make_feature_map(fields: list[tuple[str, int, int]]) -> FeatureMap:
    """FuxiCTR's description of (name, vocabulary, slots); a field of many slots is their masked mean."""
    feature_map = FeatureMap("benchmark", "")
    for name, size, slots in fields:
        spec = {"source": "", "type": "categorical", "padding_idx": 0, "vocab_size": size}
        if slots > 1:
            pooling = {"feature_encoder": "layers.MaskedAveragePooling()", "max_len": slots}
            spec |= {"type": "sequence", **pooling}
        feature_map.features[name] = spec
    feature_map.labels = ["label"]
    feature_map.num_fields = len(fields)
    feature_map.set_column_index()
    return feature_map


def random_columns(task: dict[str, Any], rows: int) -> dict[str, Any]:
    """An array per field, int32 [rows] or [rows, slots], and the labels, float32 [rows]."""
    rng = np.random.default_rng(0)
    columns = {
        name: rng.integers(1, size, (rows, slots) if slots > 1 else rows, dtype=np.int32)
        for name, size, slots in task["fields"]
    }
    return columns | {"label": rng.integers(0, 2, rows).astype(np.float32)}


def time_steps(model: EKTF, task: dict[str, Any]) -> dict[str, Any]:
    """Seconds of each of `steps` training steps on one batch, and of the first, which warms up."""
    batch = {name: torch.from_numpy(c) for name, c in random_columns(task, task["batch_size"]).items()}
    model.train()
    first, *others = [clock(lambda: model.train_step(batch)) for _ in range(1 + task["steps"])]
    return {"seconds": others, "first_step_seconds": first}


def time_epochs(model: EKTF, task: dict[str, Any]) -> dict[str, Any]:
    """Seconds of each of `epochs` epochs over `rows` rows by FuxiCTR's loader, after one to warm up."""
    with tempfile.TemporaryDirectory() as directory:
        path = str(Path(directory) / "train.npz")
        np.savez(path, **random_columns(task, task["rows"]))
        loader, _ = RankDataLoader(
            model.feature_map,
            stage="train",
            train_data=path,
            batch_size=task["batch_size"],
            shuffle=True,
            num_workers=task["workers"],
        )
        seconds = [clock(lambda: model.train_epoch(loader)) for _ in range(1 + task["epochs"])]
    return {"seconds": seconds[1:]}


def fit(model: EKTF, task: dict[str, Any]) -> dict[str, Any]:
    """Train to the end by FuxiCTR's own `fit` on `files` (npz per split); metrics of the best epoch."""
    train, valid, test = RankDataLoader(
        model.feature_map,
        stage="both",
        **{f"{split}_data": path for split, path in task["files"].items()},
        batch_size=task["batch_size"],
        shuffle=True,
    )
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as directory:
        model.checkpoint = str(Path(directory) / "best.model")
        model._eval_steps = None  # after each epoch
        model.fit(train, task["epochs"], valid, task["clip_norm"])
    seconds = time.perf_counter() - started
    best = max(range(len(model.curve)), key=lambda epoch: model.curve[epoch])
    found = {"curve": model.curve, "epochs": len(model.curve), "best_epoch": best + 1, "seconds": seconds}
    return found | {"valid": metrics(model, valid), "test": metrics(model, test)}


def metrics(model: EKTF, loader: Any) -> dict[str, Any]:
    """AUC and logloss of the ensemble and of each student over a split."""
    model.eval()
    labels, parts = [], []
    with torch.no_grad():
        for batch in loader:
            found = model(batch)
            logits = torch.cat(found["logits"], dim=1)
            parts.append(torch.cat([torch.sigmoid(logits), found["y_pred"]], dim=1).double().numpy())
            labels.append(model.get_labels(batch).double().numpy().reshape(-1))
    truth = np.concatenate(labels)
    measured = []
    for predictions in np.concatenate(parts).T:
        scores = model.evaluate_metrics(truth, predictions, ["AUC", "logloss"])
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
            batch = {name: torch.from_numpy(c) for name, c in random_columns(task, rows).items()}

            def one(batch: dict[str, Tensor] = batch) -> None:
                model.students[0](model.embedding_layer(model.get_inputs(batch)))

            def ensemble(batch: dict[str, Tensor] = batch) -> None:
                model(batch)

            for run, into in ((one, alone), (ensemble, everything)):
                for _ in range(3):
                    run()
                into[rows] = [clock(run) for _ in range(task["calls"])]
    return {"student": alone, "ensemble": everything}


def trace(model: EKTF, task: dict[str, Any]) -> dict[str, Any]:
    """The losses of `steps` steps on one batch, for a test; `file` gets the batch and the first weights."""
    columns = random_columns(task, task["batch_size"])
    batch = {name: torch.from_numpy(column) for name, column in columns.items()}
    arrays: dict[str, Any] = {name: p.detach().numpy() for name, p in model.named_parameters()}
    np.savez(task["file"], **arrays, **{f"batch/{name}": column for name, column in columns.items()})
    model.train()
    return {"losses": [model.train_step(batch).item() for _ in range(task["steps"])]}


def clock(run: Any) -> float:
    """Seconds of a call."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def main() -> None:
    """Do one task."""
    task = json.load(sys.stdin)
    torch.manual_seed(task.get("seed", 0))
    model = EKTF(make_feature_map(task["fields"]), task)
    built_at = time.time()
    tasks = {
        **{"step": time_steps, "epoch": time_epochs, "predict": time_predictions},
        **{"trace": trace, "fit": fit},
    }
    result = tasks[task["task"]](model, task)
    result |= {"imported_at": IMPORTED_AT, "built_at": built_at}
    result["params"] = sum(p.numel() for p in model.parameters() if p.requires_grad)
    result["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    result["threads"] = torch.get_num_threads()
    result["versions"] = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "fuxictr": fuxictr.__version__,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
