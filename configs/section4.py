"""Section 4 of the paper on one dataset, as one sweep: Tables 2 to 5 and Figures 2, 3, 5, 7 and 8.

    python -m experiments.sweep --config=configs/section4.py:ml1m --workdir=runs/section4 --list
    python -m experiments.sweep --config=configs/section4.py:ml1m --workdir=runs/section4
    python -m experiments.report --results=runs/section4 --out=runs/section4/report

A run's name is METHOD/STUDENTS_kK_sSEED; one that several tables need is there once. Three seeds for what
the paper's claims rest on, one for the rest.

The paper does not say how it set ECKD and DAGFM up for Table 5. Here ECKD's teachers are the students of
EKTF_Latest, as Table 2 has them alone, its student is Table 2's MLP, and its weights are 1. A DAGFM is as
deep as its teacher, Table 2's CIN for the inner interaction and CrossNetV2 for the others, as in the run
files of its authors (github.com/RUCAIBox/DAGFM), who have CIN -> inner and CrossNet -> outer.
"""

import copy
from collections.abc import Iterable

import ml_collections

from configs import base, ektf_latest, ektf_mlp, published, table2, table4

SEEDS = (2024, 2025, 2026)
SIZES = (1, 2, 3, 4, 5, 6, 10)
TABLE_4 = ("crossnetv2", "dcnv2", "cin", "xdeepfm", "wide_deep", "afn", "autoint")
# Baselines with three seeds: the single MLP, and the best single models of the paper's Table 2.
BASELINES = ("mlp", "ecn", "final2b")

# Interactions of a DAGFM and the teacher for each.
DAGFMS = {"inner": "cin", "outer": "crossnetv2", "kernel": "crossnetv2"}


def get_config(dataset: str = "ml1m") -> ml_collections.ConfigDict:
    (dataset,) = base.arguments(dataset, published.DATASETS)
    runs: dict[str, ml_collections.ConfigDict] = {}

    def add(
        name: str,
        config: ml_collections.ConfigDict,
        seeds: Iterable[int] = SEEDS[:1],
        teachers: Iterable[str] = (),
    ) -> None:
        for seed in seeds:
            run = copy.deepcopy(config)
            run.seed = seed
            run.transfer.teachers = tuple(f"{teacher}_s{seed}" for teacher in teachers)
            runs[f"{name}_s{seed}"] = run

    def variant(
        config: ml_collections.ConfigDict, method: str, **options: object
    ) -> ml_collections.ConfigDict:
        changed = copy.deepcopy(config)
        changed.transfer.name = method
        changed.transfer[method].update(options)
        return changed

    latest, mlps = ektf_latest.get_config(dataset), ektf_mlp.get_config(dataset)

    # Table 2
    add("ektf/latest_k3", latest, SEEDS)
    for model in published.MODELS:
        add(
            f"alone/{model}_k1",
            table2.get_config(f"{dataset},{model}"),
            SEEDS if model in BASELINES else SEEDS[:1],
        )

    # Table 3: the ablations of EKTF_Latest
    add("ektf_only_kd/latest_k3", variant(latest, "ektf", dml=False))
    add("ektf_only_dml/latest_k3", variant(latest, "ektf", kd=False))
    add("ektf_without_em/latest_k3", variant(latest, "ektf", examination=False))
    add("mean/latest_k3", variant(latest, "none"), SEEDS)

    # Figures 2, 3, 5, 7 and 8: K equal MLPs
    for size in SIZES[1:]:
        mlps.ensemble.num_students = size
        add(f"ektf/mlp_k{size}", mlps, SEEDS if size in (2, 3) else SEEDS[:1])
        for method in ("kd", "dml"):
            add(f"{method}/mlp_k{size}", variant(mlps, method))
        for fusion in ("mean", "sum", "concat"):
            plain = variant(mlps, "none")
            plain.ensemble.fusion = fusion
            add(f"{fusion}/mlp_k{size}", plain, SEEDS if fusion == "mean" and size in (2, 3) else SEEDS[:1])

    # Table 4: EKTF_x of the models that are not EKTF_Latest's own
    for model in TABLE_4:
        add(f"ektf/latest_and_{model}_k4", table4.get_config(f"{dataset},{model}"))

    # Table 5: other transfer methods over the students of EKTF_Latest, with either divergence
    for divergence in ("mse", "kl"):
        add(f"online_kd_{divergence}/latest_k3", variant(latest, "online_kd", divergence=divergence))
        for kdcl in ("naive", "minlogit", "linear", "general"):
            name = f"kdcl_{kdcl}_{divergence}/latest_k3"
            add(name, variant(latest, "kdcl", variant=kdcl, divergence=divergence))

    # and those with teachers
    mlp = variant(table2.get_config(f"{dataset},mlp"), "eckd")
    add("eckd/mlp_k1", mlp, teachers=[f"alone/{model}_k1" for model in ("pnn", "final1b", "ecn")])
    for interaction, teacher in DAGFMS.items():
        taught = table2.get_config(f"{dataset},{teacher}")
        depth = _layers(taught.ensemble.students[teacher])
        taught.ensemble.students = {"dagfm": {"name": "dagfm", "interaction": interaction, "depth": depth}}
        distilled = f"dagfm_distillation/{interaction}_k1"
        add(distilled, variant(taught, "dagfm", stage="distillation"), teachers=[f"alone/{teacher}_k1"])
        add(
            f"dagfm_finetuning/{interaction}_k1",
            variant(taught, "dagfm", stage="finetuning"),
            teachers=[distilled],
        )

    config = ml_collections.ConfigDict()
    config.runs = runs
    return config


def _layers(teacher: ml_collections.ConfigDict) -> int:
    """Of a CIN or a CrossNetV2; 3 is the default of both."""
    return teacher.get("num_cross_layers") or len(teacher.get("cin_hidden_units", ())) or 3
