"""The model card of a bundle: what it is, what it reads, how good it was, how it is used."""

from collections.abc import Mapping
from typing import Any


def text(about: Mapping[str, Any]) -> str:
    """Markdown, from what bundle.json says."""
    one = about["predictor"] != "ensemble"
    what = f"student {about['predictor']}" if one else f"an ensemble of {about['students']} students"
    kinds = about["run"]["students"]
    kinds = kinds[int(about["predictor"])] if one else ", ".join(dict.fromkeys(kinds))
    rows = [
        f"| {name} | {split} | {values['auc']:.6f} | {values['logloss']:.6f} |"
        for split, found in about["metrics"].items()
        for name, values in [
            ("this student" if one else "ensemble", found["ensemble"]),
            *((f"student {k}", student) for k, student in enumerate(found.get("students", ()))),
        ]
    ]
    return "\n".join(
        [
            f"# Click-through rates of {about['dataset']}",
            "",
            f"This bundle predicts the probability of a click. It is {what} ({kinds}; {about['params']:,}"
            f" parameters), trained by ektf-jax {about['versions']['ektf-jax']} with the seed"
            f" {about['run']['seed']}.",
            "",
            "## What it reads",
            "",
            f"Rows with the columns {', '.join(about['fields'])}, in any order. A value that",
            "training did not see is out of vocabulary: where all values of a field were kept, its entry was",
            "never trained and stays next to zero.",
            "",
            "## How good it was",
            "",
            "| predictor | split | AUC | logloss |",
            "| --- | --- | --- | --- |",
            *rows,
            "",
            "On the dataset's own splits. Later it may do worse: score rows whose labels are known.",
            "",
            "## How it is used",
            "",
            "    from ektf_jax.bundle import load",
            "    load('.').predict(rows)",
            "",
            "or `ektf score --bundle=. --input=FILE --out=FILE`. It holds no code but an",
            "operator graph, and is read without pickle.",
            "",
        ]
    )
