"""The paper's Tables 2 to 5, of the runs of one dataset without variants (`seeds.main_runs`)."""

from collections.abc import Mapping, Sequence

from ektf_jax.report.paper import published, select
from ektf_jax.report.paper.names import NAMES
from ektf_jax.report.paper.rows import (
    Row,
    against_ektf,
    assemble,
    beside_published,
    best_baseline,
    find,
    gains,
    logged_note,
    make_row,
    measured,
    p_values,
    test_note,
)
from ektf_jax.report.results import Metrics, Outcome
from ektf_jax.report.seeds import mean
from ektf_jax.report.tables import Cell, Table

_COUNTS = 1e-3  # a difference in AUC that the paper calls significant


def table_2(runs: Sequence[Outcome], dataset: str) -> Table | None:
    """The paper's Table 2: models alone, EKTF_MLP by K with its best student, EKTF_Latest.

    Further models alone that were published elsewhere on the dataset (`published.others`) are in it too. None
    without any of its runs. The paper does not say the K of its EKTF_MLP.
    """
    paper, others = published.metrics(2, dataset), published.others(dataset)
    known = {model: metrics for model, (metrics, _) in others.items()} | paper
    listed = published.metrics(2, "criteo")
    alone = {model for model in listed if not model.startswith("ektf_")} | others.keys()
    rows = [
        make_row(NAMES.model(model), find(runs, select.alone(model)), known.get(model), size="1")
        for model in sorted(alone, key=NAMES.position)
    ]
    for model in ("ektf_mlp_best_student", "ektf_mlp"):
        for size in select.sizes(find(runs, select.ektf(), select.of_mlps)):
            found = find(runs, select.ektf(), select.of_mlps, select.sized(size))
            best = model != "ektf_mlp"
            values = tuple(run.best_student if best else run.ensemble for run in found)
            valid = tuple(run.best_on_validation if best else run.valid for run in found)
            title = "EKTF_MLP, best student" if best else "EKTF_MLP"
            rows.append(Row(title, values, valid, paper.get(model), str(size), tested=True))
    found = find(runs, select.ektf(), select.of(*select.LATEST))
    rows.append(make_row("EKTF_Latest", found, paper.get("ektf_latest"), size="3", tested=True))
    if not any(row.values for row in rows):
        return None
    columns: list[list[Cell]] = []
    for metric in ("auc", "logloss"):
        baseline = best_baseline(rows, metric)
        columns += [
            *measured(rows, metric, baseline),
            *beside_published(rows, metric),
            p_values(rows, metric, baseline),
        ]
    notes = [test_note(rows), logged_note(dataset, paper), _others_note(others)]
    beside = "paper" if paper else "BARS"
    header = (
        f"model,K,seeds,validation AUC,AUC,{beside},difference,p,"
        f"validation logloss,logloss,{beside},difference,p"
    )
    return assemble("Table 2: models alone, and EKTF", header, rows, columns, notes)


def _others_note(others: Mapping[str, tuple[Metrics, str]]) -> str:
    """Whose the published numbers are that are not the paper's."""
    by: dict[str, list[str]] = {}
    for model in sorted(others, key=NAMES.position):
        by.setdefault(others[model][1], []).append(NAMES.model(model))
    whose = "; ".join(f"by {source} {', '.join(models)}" for source, models in by.items())
    return f"Published elsewhere than in the paper, on rows as they were: {whose}." if by else ""


def table_3(runs: Sequence[Outcome]) -> Table | None:
    """The paper's Table 3: EKTF_Latest without some of its parts. None without any of its runs."""
    variants = {
        "EKTF_Latest": select.ektf(),
        "only KD": select.ektf(dml=False),
        "only DML": select.ektf(kd=False),
        "w/o EM": select.ektf(examination=False),
        "w/o all": select.method("none"),
    }
    latest = select.of(*select.LATEST)
    rows = [make_row(title, find(runs, is_it, latest)) for title, is_it in variants.items()]
    return against_ektf("Table 3: parts of EKTF left out of EKTF_Latest", rows, reference=0)


def table_4(runs: Sequence[Outcome], dataset: str) -> Table | None:
    """The paper's Table 4: each model alone, and as a student of EKTF. None without any of its runs.

    PNN, FINAL(1B) and ECN are students of EKTF_Latest; the others, of EKTF over these three and the model.
    """
    paper = published.metrics(4, dataset)
    rows: list[Row] = []
    epochs: list[float] = []
    for model in published.metrics(4, "criteo"):
        if not model.startswith("ektf_"):
            found = find(runs, select.alone(model))
            epochs.append(mean([run.epochs for run in found]))
            rows.append(make_row(NAMES.model(model), found, paper.get(model), size="1"))
            continue
        kind = model.removeprefix("ektf_")
        students = tuple({*select.LATEST, kind})
        found = find(runs, select.ektf(), select.of(*students))
        values = tuple(run.students[run.kinds.index(kind)] for run in found)
        valid = tuple(run.valid_students[run.kinds.index(kind)] for run in found)
        size, base = str(len(students)), len(rows) - 1
        epochs.append(mean([run.epochs for run in found]))
        rows.append(Row(f"EKTF_{NAMES.model(kind)}", values, valid, paper.get(model), size, base=base))
    if not any(row.values for row in rows):
        return None
    columns = [
        *measured(rows, "auc"),
        *beside_published(rows, "auc"),
        *gains(rows, "auc"),
        *measured(rows, "logloss"),
        *beside_published(rows, "logloss"),
    ]
    header = (
        "model,K,seeds,validation AUC,AUC,paper,difference,gain,paper's gain,"
        "validation logloss,logloss,paper,difference"
    )
    notes = [
        "A gain is in AUC, over the model alone in the row above. K is the number of students in training.",
        "FINAL(1B) inside EKTF stands beside FINAL(2B) alone, as in the paper.",
    ]
    if opposite := _opposite_gains(rows, epochs):
        notes.append(
            f"Gains of 0.001 or more whose sign is opposite to the paper's: {'; '.join(opposite)}. In EKTF"
            " the learning rate and the end follow the ensemble, whether or not this student still learns."
        )
    return assemble("Table 4: models alone, and as students of EKTF", header, rows, columns, notes)


def _opposite_gains(rows: Sequence[Row], epochs: Sequence[float]) -> list[str]:
    """Models of Table 4 that gain here and lose in the paper, or the other way, with their mean epochs."""
    found = []
    for row, inside in zip(rows, epochs, strict=True):
        if row.base is None:
            continue
        base = rows[row.base]
        if not row.published or not base.published:
            continue
        ours = mean(row.of("auc")) - mean(base.of("auc"))
        theirs = row.published.auc - base.published.auc
        if ours * theirs < 0 and min(abs(ours), abs(theirs)) >= _COUNTS:
            found.append(f"{base.title} (alone {epochs[row.base]:.3g} epochs, inside EKTF {inside:.3g})")
    return found


def table_5(runs: Sequence[Outcome]) -> Table | None:
    """The paper's Table 5: transfer methods over the students of EKTF_Latest; metrics of the ensemble.

    ECKD has one student, of whatever kind, and so has DAGFM, whose rows are fine-tuned students. None without
    any of its runs.
    """
    latest = select.of(*select.LATEST)
    conditions: dict[str, select.Is] = {}
    for divergence in ("mse", "kl"):
        options: dict[str, str] = {"divergence": divergence}
        title = NAMES.method("online_kd", options, "mean")
        conditions[title] = select.both(select.method("online_kd", **options), latest)
    for variant in ("naive", "minlogit", "linear", "general"):
        for divergence in ("mse", "kl"):
            options = {"variant": variant, "divergence": divergence}
            title = NAMES.method("kdcl", options, "mean")
            conditions[title] = select.both(select.method("kdcl", **options), latest)
    conditions[NAMES.method("eckd", {}, "mean")] = select.method("eckd")
    for interaction in ("inner", "outer", "kernel"):
        kind = f"dagfm_{interaction}"
        finetuned = select.method("dagfm", stage="finetuning")
        conditions[NAMES.model(kind)] = select.both(finetuned, select.of(kind))
    conditions["EKTF"] = select.both(select.ektf(), latest)
    rows = [make_row(title, find(runs, is_it)) for title, is_it in conditions.items()]
    return against_ektf("Table 5: EKTF and other transfer methods", rows, reference=len(rows) - 1)
