"""Students, the loss and the training step in PyTorch."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

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
