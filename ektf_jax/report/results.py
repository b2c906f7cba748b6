"""Runs read back from their result.json files, and grouped for tables and figures."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ektf_jax.errors import InputError
from ektf_jax.report import published

# The paper's names of its own models; the others are called what the students are.
TITLES = {
    "ektf_mlp": "EKTF_MLP",
    "ektf_mlp_best_student": "EKTF_MLP, best student",
    "ektf_latest": "EKTF_Latest",
}

# Transfer methods as tables name them, in the order of the paper's Section 3.
METHODS = {
    "none": "plain {fusion}",
    "kd": "KD",
    "dml": "DML",
    "online_kd": "online KD ({divergence})",
    "kdcl": "KDCL-{variant} ({divergence})",
    "ektf": "EKTF",
}


@dataclass(frozen=True)
class Run:
    """One result.json: what was trained (`label`, K) and the test metrics of ensemble and students.

    `method` is the position of its transfer method in METHODS, `model` what the paper's tables have it as,
    a key of `published.metrics`, or "".
    """

    method: int
    dataset: str
    model: str
    label: str
    num_students: int
    seed: int
    parameters: int
    auc: float
    logloss: float
    student_aucs: tuple[float, ...]
    samples_per_second: float


def load(directory: Path) -> list[Run]:
    """All runs below a directory: single models, then by method, K and seed.

    Raises InputError where there is none or one is broken.
    """
    paths = sorted(directory.rglob("result.json"))
    if not paths:
        raise InputError(
            f"{directory}: no result.json below it; train with `python -m experiments.train` first"
        )
    runs = [_read(path) for path in paths]
    return sorted(
        runs, key=lambda run: (run.num_students > 1, run.method, run.label, run.num_students, run.seed)
    )


def groups(runs: list[Run]) -> dict[tuple[str, int], list[Run]]:
    """Runs that differ in seed only, under (label, K), in the order of `runs`."""
    grouped: dict[tuple[str, int], list[Run]] = {}
    for run in runs:
        grouped.setdefault((run.label, run.num_students), []).append(run)
    return grouped


def table(runs: list[Run]) -> str:
    """A Markdown table: a line per method and K, test metrics averaged over seeds.

    Best and worst student, and the ensemble's lead over the best one, are per run, then averaged.
    """
    lines = [
        "| model | K | seeds | parameters | ensemble AUC | logloss | best student | worst student | lead |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for (label, num_students), same in groups(runs).items():
        best = _mean([max(run.student_aucs, default=np.nan) for run in same])
        worst = _mean([min(run.student_aucs, default=np.nan) for run in same])
        auc = _mean([run.auc for run in same])
        spread = f" ± {np.std([run.auc for run in same], ddof=1):.4f}" if len(same) > 1 else ""
        cells = [
            label,
            str(num_students),
            str(len(same)),
            f"{same[0].parameters:,}",
            f"{auc:.4f}{spread}",
            f"{_mean([run.logloss for run in same]):.4f}",
            *(("-", "-", "-") if np.isnan(best) else (f"{best:.4f}", f"{worst:.4f}", f"{auc - best:+.4f}")),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def table_2(runs: list[Run], dataset: str) -> str:
    """The rows of the paper's Table 2 that were run, as Markdown: ours beside the paper's.

    Ours are means over seeds; "" without such runs. The paper does not say the K of its EKTF_MLP.
    """
    ours = groups([run for run in runs if run.dataset == dataset])
    lines = [
        "| model | K | seeds | AUC | paper's | difference | logloss | paper's |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for model, (paper_logloss, paper_auc) in published.metrics(2, dataset).items():
        for (_, num_students), same in ours.items():
            if same[0].model != model:
                continue
            logloss, auc = np.mean([(run.logloss, run.auc) for run in same], axis=0)
            cells = [
                TITLES.get(model, model),
                str(num_students),
                str(len(same)),
                f"{auc:.4f}",
                f"{paper_auc:.4f}",
                f"{auc - paper_auc:+.4f}",
                f"{logloss:.4f}",
                f"{paper_logloss:.4f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n" if len(lines) > 2 else ""


def _mean(values: list[float]) -> float:
    return float(np.mean(values))


def _read(path: Path) -> Run:
    try:
        result: dict[str, Any] = json.loads(path.read_text())
        config, test = result["config"], result["test"]
        return Run(
            method=list(METHODS).index(config["transfer"]["name"]),
            dataset=result["dataset"]["name"],
            model=_model(config),
            label=_label(config),
            num_students=config["ensemble"]["num_students"],
            seed=result["seed"],
            parameters=result["params"],
            auc=test["ensemble"]["auc"],
            logloss=test["ensemble"]["logloss"],
            student_aucs=tuple(student["auc"] for student in test["students"]),
            samples_per_second=result["train_samples_per_second"],
        )
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a result of this project ({error!r}); remove or repair it") from None


def _label(config: dict[str, Any]) -> str:
    ensemble, method = config["ensemble"], config["transfer"]["name"]
    kinds = sorted({kind.upper() for kind in _kinds(config)})
    if ensemble["num_students"] == 1:
        return f"single {kinds[0]}"
    options = config["transfer"].get(method, {})
    return f"{METHODS[method].format(**ensemble, **options)} of {', '.join(kinds)}"


def _model(config: dict[str, Any]) -> str:
    """What the paper's tables have a run as: a model alone, or its own ensembles by their students."""
    ensemble, method = config["ensemble"], config["transfer"]["name"]
    kinds = _kinds(config)
    if ensemble["num_students"] == 1:
        return kinds[0]
    if method == "ektf" and set(kinds) == {"mlp"}:
        return "ektf_mlp"
    if method == "ektf" and sorted(kinds) == ["ecn", "final1b", "pnn"]:
        return "ektf_latest"
    return ""


def _kinds(config: dict[str, Any]) -> list[str]:
    return [
        f"final{student.get('blocks', 1)}b" if student["name"] == "final" else student["name"]
        for student in config["ensemble"]["students"].values()
    ]
