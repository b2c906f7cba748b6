"""What the paper calls models and transfer methods, in its order."""

from collections.abc import Mapping
from typing import Any

from ektf_jax.report.names import Names

# The asterisk is the paper's: the model together with a deep network.
MODELS = {
    "lr": "LR",
    "fm": "FM",
    "pnn": "PNN",
    "wide_deep": "Wide & Deep",
    "deepfm": "DeepFM",
    "dcn": "DCNv1",
    "crossnetv2": "CrossNetv2",
    "cin": "CIN",
    "xdeepfm": "xDeepFM",
    "autoint": "AutoInt*",
    "afn": "AFN*",
    "dcnv2": "DCNv2",
    "edcn": "EDCN",
    "masknet": "MaskNet",
    "cl4ctr": "CL4CTR",
    "eulernet": "EulerNet",
    "finalmlp": "FinalMLP",
    "final1b": "FINAL(1B)",
    "final2b": "FINAL(2B)",
    "ecn": "ECN",
    "fcn": "FCN",
    "qnn": "QNN-alpha",
    "mlp": "MLP",
    "dagfm_inner": "DAGFM-inner",
    "dagfm_outer": "DAGFM-outer",
    "dagfm_kernel": "DAGFM-kernel",
}

# In the order of the paper's Section 3, then of its Table 5; others come last.
METHODS = {
    "none": "plain",
    "kd": "KD",
    "dml": "DML",
    "online_kd": "Online KD",
    "kdcl": "KDCL",
    "eckd": "ECKD",
    "dagfm": "DAGFM",
    "ektf": "EKTF",
    "blend": "Blend",
}

_KDCL = {"naive": "Naive", "minlogit": "MinLogit", "linear": "Linear", "general": "General"}


def kind(student: Mapping[str, Any]) -> str:
    """The model that a student's settings name: FINAL by its blocks, DAGFM by its interaction, one's own by
    its class."""
    name = student["name"]
    if name == "final":
        return f"final{student.get('blocks', 1)}b"
    if name == "dagfm":
        return f"dagfm_{student.get('interaction', 'outer')}"
    return str(name.rpartition(":")[2])


def method(name: str, options: Mapping[str, Any], fusion: str) -> str:
    """A method with the options that make it another one: "EKTF (only KD)", "DAGFM (finetuning)".

    "own losses": of students that are trained side by side, and nothing passes between them.
    """
    if name == "none":
        return f"plain {fusion}"
    if name == "ektf" and not options.get("kd", True) and not options.get("dml", True):
        return "own losses"
    title = METHODS.get(name, name)
    if name == "kdcl":
        title += f"-{_KDCL.get(str(options.get('variant')), options.get('variant'))}"
    notes = _ablation(options) if name == "ektf" else []
    if "stage" in options:
        notes.append(str(options["stage"]))
    if "divergence" in options:
        notes.append(str(options["divergence"]).upper())
    if fusion not in ("mean", "logits"):
        notes.append(fusion)
    return f"{title} ({', '.join(notes)})" if notes else title


def _ablation(options: Mapping[str, Any]) -> list[str]:
    kd, dml, examination = (options.get(part, True) for part in ("kd", "dml", "examination"))
    parts = [] if kd and dml else ["only KD" if kd else "only DML"]
    return parts if examination else [*parts, "w/o EM"]


NAMES = Names(models=MODELS, methods=tuple(METHODS), kind=kind, method=method)
# What has its end as an index in the paper.
INDEXED = tuple(f"EKTF_{name}" for name in ("Latest", *MODELS.values()))
