"""What a report calls datasets, models and transfer methods, and names as text, files and code."""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

DATASETS = {
    "criteo": "Criteo",
    "ml1m": "MovieLens-1M",
    "kdd12": "KDD12",
    "ipinyou": "iPinYou",
    "kkbox": "KKBox",
    "frappe": "Frappe",
    "frappe_redrawn": "Frappe (redrawn training negatives)",
}


def dataset(name: str) -> str:
    """A dataset's name: "MovieLens-1M" for ml1m."""
    return DATASETS.get(name, name)


def _kind(student: Mapping[str, Any]) -> str:
    """One's own by its class."""
    return str(student["name"].rpartition(":")[2])


def _method(name: str, options: Mapping[str, Any], fusion: str) -> str:
    del options
    return name if fusion in ("mean", "logits") else f"{name} ({fusion})"


@dataclass(frozen=True)
class Names:
    """What models and methods are called, in their order; those that it does not list come last.

    `kind` is the model that a student's settings name, a key of `models`; `method` is the name of a transfer
    method from its name in configs, its options in full and the fusion.
    """

    models: Mapping[str, str] = field(default_factory=dict)
    methods: Sequence[str] = ()
    kind: Callable[[Mapping[str, Any]], str] = _kind
    method: Callable[[str, Mapping[str, Any], str], str] = _method

    def model(self, kind: str) -> str:
        """A model's name; capitals for one that is not listed."""
        return self.models.get(kind, kind.upper())

    def all_of(self, kinds: Sequence[str]) -> str:
        """The names of the distinct kinds, in their order."""
        return ", ".join(self.model(kind) for kind in sorted(set(kinds), key=self.position))

    def position(self, kind: str) -> tuple[int, str]:
        """To sort models by: their order, then others by name."""
        return (list(self.models).index(kind) if kind in self.models else len(self.models), kind)

    def position_of_method(self, name: str) -> int:
        """To sort methods by."""
        return self.methods.index(name) if name in self.methods else len(self.methods)


def beside(
    sharing: str | float,
    passes: int,
    members: str,
    average: float,
    init_from: Sequence[str] = (),
    *,
    taught: bool = False,
) -> str:
    """What an ensemble has that those of one table and whole students have not: ", a table each"."""
    own = {"shared": 0.0, "own": 1.0}[sharing] if isinstance(sharing, str) else sharing
    notes = ["a table each" if own == 1 else f"{own:.0%} own columns"] if own else []
    notes += ["self-transfer"] if passes > 1 else []
    notes += [members] if members != "separate" else []
    notes += [f"average of weights {average:g}"] if average else []
    notes += ["from finished runs"] if init_from else []
    notes += ["taught by a finished run"] if taught else []
    return "".join(f", {note}" for note in notes)


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
