"""What is wrong with an answer to a broken file, by kinds of files; None where it is right."""

import json
import re
from collections.abc import Callable
from typing import Any

from benchmarks.faults import plain
from benchmarks.faults.cases import Case

_TIMES = re.compile(r"[\d,.]+ rows/s|in [\d.]+ s|seconds +[\d.]+")


def same_output(case: Case) -> str | None:
    """The answer is that of the unbroken file."""
    assert case.base is not None
    ours, theirs = (_TIMES.sub("", one.done.out.replace(str(one.directory), "")) for one in (case, case.base))
    return None if ours == theirs else f"another answer: {_first_difference(ours, theirs)}"


def _first_difference(ours: str, theirs: str) -> str:
    for one, other in zip(ours.splitlines(), theirs.splitlines(), strict=False):
        if one != other:
            return f"{one!r} for {other!r}"
    return "more or fewer lines"


def same_files(name: str, case: Case) -> str | None:
    """What was written is what came of the unbroken file."""
    assert case.base is not None
    ours, theirs = ((one.directory / name).read_bytes() for one in (case, case.base))
    return None if ours == theirs else f"another {name}"


def same_run(case: Case) -> str | None:
    """The metrics of the run are those of the unbroken one, to the bit."""
    assert case.base is not None
    results = [
        plain.strict_json((one.directory / "cut_off/result.json").read_bytes()) for one in (case, case.base)
    ]
    for key in ("valid", "test", "best_epoch", "epochs", "params"):
        if results[0][key] != results[1][key]:
            return f"another {key}"
    return None


def json_otherwise(harmless: str, otherwise: Callable[[Case], str | None], case: Case) -> str | None:
    """Where nothing else changed than leaves that stand for themselves, such as names, all is right."""
    try:
        before, after = (plain.strict_json(data) for data in (case.before, case.file.read_bytes()))
    except (ValueError, RecursionError) as error:
        return f"a plain reader refuses it ({error!r})"
    if all(re.fullmatch(harmless, path) for path in plain.changed(before, after)):
        return None
    return otherwise(case)


def metrics_shown(case: Case) -> str | None:
    """The table has the ensemble's test metrics as the file has them."""
    if same_output(case) is None:
        return None
    try:
        result = plain.strict_json(case.file.read_bytes())
        auc, logloss = (result["test"]["ensemble"][name] for name in ("auc", "logloss"))
    except (ValueError, LookupError, TypeError) as error:
        return f"a plain reader refuses it ({error!r})"
    shown = [number for number in (f"{auc:.4f}", f"{logloss:.4f}") if number not in case.done.out]
    return f"{shown} is not in the table" if shown else None


def epochs(case: Case) -> str | None:
    """A plain reader takes every line for an evaluation, too."""
    try:
        plain.epochs(case.file)
    except Exception as error:
        return f"a plain reader refuses it ({error!r})"
    return None


def config(case: Case) -> str | None:
    """Python, run by itself, returns a config with the same values."""
    space: dict[str, Any] = {"__name__": "config_file"}
    try:
        exec(compile(case.file.read_bytes(), "config", "exec"), space)
        config = json.loads(json.dumps(space["get_config"]().to_dict()))  # tuples are lists there, too
    except Exception as error:
        return f"Python refuses it ({error!r})"
    ours = plain.leaves(plain.strict_json(case.done.out.encode()))
    for key, value in plain.leaves(config).items():
        if key in ours and ours[key] != value:
            return f"{key} is {ours[key]!r}, not {value!r}"
    return None


def overridden(case: Case) -> str | None:
    """Every value is what Python reads of its text as the type of the key."""
    ours = plain.leaves(plain.strict_json(case.done.out.encode()))
    kinds: dict[str, Callable[[str], Any]] = {
        "seed": int,
        "data.path": str,
        "data.batch_size": int,
        "train.learning_rate": float,
        "train.max_epochs": int,
        "embedding.l2": float,
        "embedding.sharing": _number_or_text,
    }
    for line in case.file.read_bytes().decode("utf-8", "surrogateescape").replace("\0", "").split("\n"):
        key, _, text = line.partition("=")
        if not line:
            continue
        if key not in kinds:
            return f"takes the key {key!r}"
        try:
            value = kinds[key](text)
        except ValueError as error:
            return f"takes {line!r} ({error})"
        if ours[f".{key}"] != value:
            return f"{key} is {ours[f'.{key}']!r} of {line!r}"
    return None


def _number_or_text(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
