"""What tables and figures call datasets, models and transfer methods: the paper's names, in its order."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

DATASETS = {
    "criteo": "Criteo",
    "ml1m": "MovieLens-1M",
    "kdd12": "KDD12",
    "ipinyou": "iPinYou",
    "kkbox": "KKBox",
    "frappe_redrawn": "Frappe (redrawn training negatives)",
}

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


def model(kind: str) -> str:
    """A model's name: "FINAL(1B)" for final1b, capitals for what the paper does not have."""
    return MODELS.get(kind, kind.upper())


def models(kinds: Sequence[str]) -> str:
    """The names of the distinct kinds, in the paper's order."""
    return ", ".join(model(kind) for kind in sorted(set(kinds), key=position))


def position(kind: str) -> tuple[int, str]:
    """To sort models by: the paper's order, then others by name."""
    return (list(MODELS).index(kind) if kind in MODELS else len(MODELS), kind)


def method(name: str, options: Mapping[str, Any], fusion: str) -> str:
    """A method with the options that make it another one: "EKTF (only KD)", "DAGFM (finetuning)"."""
    if name == "none":
        return f"plain {fusion}"
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


def beside(
    sharing: str | float,
    passes: int,
    members: str,
    average: float,
    init_from: Sequence[str] = (),
    *,
    taught: bool = False,
) -> str:
    """What an ensemble has that the paper's have not: ", a table each, self-transfer"."""
    own = {"shared": 0.0, "own": 1.0}[sharing] if isinstance(sharing, str) else sharing
    notes = ["a table each" if own == 1 else f"{own:.0%} own columns"] if own else []
    notes += ["self-transfer"] if passes > 1 else []
    notes += [members] if members != "separate" else []
    notes += [f"average of weights {average:g}"] if average else []
    notes += ["from finished runs"] if init_from else []
    notes += ["taught by a finished run"] if taught else []
    return "".join(f", {note}" for note in notes)


def _ablation(options: Mapping[str, Any]) -> list[str]:
    kd, dml, examination = (options.get(part, True) for part in ("kd", "dml", "examination"))
    parts = [] if kd and dml else ["only KD" if kd else "only DML" if dml else "neither KD nor DML"]
    return parts if examination else [*parts, "w/o EM"]


def file_name(text: str) -> str:
    """A name for files: the text itself where it is one everywhere, else what of it is, and a hash."""
    if re.fullmatch(r"[a-z0-9_][a-z0-9_-]{0,59}", text):
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return "-".join([*re.findall(r"[a-z0-9_]+", text.lower()), digest])[-60:].lstrip("-")


def one_line(text: str, most: int | None = None) -> str:
    """A text that can be printed: control characters as escapes; one longer than `most` is cut."""
    line = "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)
    return line if most is None or len(line) <= most else f"{line[: most - 1]}…"


def literal(text: str) -> str:
    """A name in running text, where backquotes enclose code (`render`)."""
    return re.sub(r"([\\`])", r"\\\1", one_line(text))


def code(text: str) -> str:
    """A name as code in running text."""
    return f"`{literal(text) or repr('')}`"
