"""What is wrong with an answer to a broken file, by kinds of files; None where it is right."""

import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import yaml

from benchmarks.faults import material, plain
from benchmarks.faults.cases import Case

_TIMES = re.compile(r"[\d,.]+ rows/s|in [\d.]+ s|seconds +[\d.]+")
_SHOP: list[dict[str, Any]] = [
    {"name": one} if isinstance(one, str) else one
    for one in yaml.safe_load(material.TABLE.format(suffix="", separator="", min_count=1))["fields"]
]


def same_output(case: Case) -> str | None:
    """The answer is that of the unbroken file."""
    assert case.base is not None
    ours, theirs = (_TIMES.sub("", one.done.out.replace(str(one.directory), "")) for one in (case, case.base))
    return None if ours == theirs else f"another answer: {_first_difference(ours, theirs)}"


def same_winner(case: Case) -> str | None:
    """A search ends the same, whichever trials it has to begin again."""
    told = re.compile(r"^(trial \d+: |.*: finished; result.json stays).*\n", re.M)
    assert case.base is not None
    ours, theirs = (
        one._replace(done=one.done._replace(out=told.sub("", one.done.out))) for one in (case, case.base)
    )
    return same_output(ours._replace(base=theirs))


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


def same_run(name: str, case: Case) -> str | None:
    """The metrics of the run are those of the unbroken one, to the bit."""
    assert case.base is not None
    results = [
        plain.strict_json((one.directory / name / "result.json").read_bytes()) for one in (case, case.base)
    ]
    for key in ("valid", "test", "best_epoch", "epochs", "params"):
        if results[0][key] != results[1][key]:
            return f"another {key}"
    return None


def harmless_only(harmless: str, case: Case) -> str | None:
    """Nothing else changed than leaves that decide nothing."""
    return json_otherwise(harmless, lambda _: "takes what is another one", case)


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


def scored(separator: str, case: Case) -> str | None:
    """Every row has the score of the row of ids that plain Python makes of it, and labels judge them."""
    every: dict[tuple[str, ...], list[float]] = {}
    words = pl.read_parquet(case.directory / "bundle/vocabulary.parquet")
    known = {name: set(values["value"]) for (name,), values in words.group_by("field")}
    for row in plain.read(case.directory / "every_scored.csv", ","):
        every[_ids(row, known)] = [float(row[name]) for name in ("p_ensemble", "p_0", "p_1")]
    try:
        rows = plain.read(case.file, separator)
        expected = np.array([every[_ids(row, known)] for row in rows])
        labels = np.array([float(row["click"]) for row in rows if "click" in row])
        if not set(labels) <= {0, 1}:
            raise ValueError("a label that is none")
    except Exception as error:
        return f"a plain reader refuses it ({error!r})"
    ours = plain.read(case.directory / "out.csv", ",")
    if [row["city"] for row in ours] != [row["city"] for row in rows]:
        return "another column that was kept"
    found = np.array([[float(row[name]) for name in ("p_ensemble", "p_0", "p_1")] for row in ours])
    if not np.allclose(found, expected, rtol=0, atol=1e-6):
        return f"other scores from row {int(np.argmax((np.abs(found - expected) > 1e-6).any(1)))}"
    told = re.search(r"^p_ensemble: .*logloss ([\d.]+)", case.done.out, re.M)
    if (told is not None) != bool(len(labels)):
        return "metrics without labels, or labels without metrics"
    logloss = -np.log(np.where(labels == 1, found[:, 0], 1 - found[:, 0])).mean() if told else 0
    return (
        f"logloss is {told[1]}, not {logloss:.6f}" if told and abs(float(told[1]) - logloss) > 2e-6 else None
    )


def _ids(row: dict[str, str], known: dict[str, set[str]]) -> tuple[str, ...]:
    """What stands for the ids of a row: the values that are known, "?" for others."""
    found = []
    for field in _SHOP:
        values = plain.values(field, row[field["name"]])[: field.get("max_len", 1)]
        found += ["?" if value not in known[field["name"]] else str(value) for value in values]
        found += [""] * (field.get("max_len", 1) - len(values))
    return tuple(found)


def axes(case: Case) -> str | None:
    """The space has the axes that PyYAML reads, with the numbers that it takes for text."""
    ours, unset = plain.strict_json(case.done.out.encode()), {"log": (False,), "step": (None,)}
    try:
        document = yaml.safe_load(case.file.read_bytes().decode())
        theirs = {
            key: {part: _number(one) for part, one in axis.items() if one not in unset.get(part, ())}
            for key, axis in document.items()
        }
    except Exception as error:
        return f"a plain reader refuses it ({error!r})"
    return None if _typed(ours) == _typed(theirs) else f"the axes are {ours}, not {theirs}"


def _number(value: Any) -> Any:
    if isinstance(value, list):
        return [_number(one) for one in value]
    wrote = isinstance(value, str) and re.fullmatch(r"[-+]?[0-9]+[eE][-+]?[0-9]+", value)
    return float(value) if wrote else value


def _typed(value: Any) -> dict[str, Any]:
    """The leaves, of which true is not 1."""
    return {key: (isinstance(one, bool), one) for key, one in plain.leaves(value).items()}


def search_shown(case: Case) -> str | None:
    """The page has what search.json says of the trials, the winner and the settings before."""
    if same_output(case) is None and same_files("out/report.md", case) is None:
        return None
    try:
        document = plain.strict_json(case.file.read_bytes())
        states = [trial["state"] for trial in document["trials"]]
        winner, own = document["finalists"][0], document["own"]
        cells = {f"| {states.count('complete')} + {states.count('pruned')} | {len(winner['runs'])} |"}
        before = {} if own is None else document["trials"][own]["settings"]
        for name, value in winner["settings"].items():
            cells.add(f"| {name} | {_shown(before.get(name, '—'))} | {_shown(value)} |")
    except Exception as error:
        return f"a plain reader refuses it ({error!r})"
    page = (case.directory / "out/report.md").read_text(encoding="utf-8")
    lacking = sorted(cell for cell in cells if cell not in page)
    return f"{lacking} is not on the page" if lacking else None


def _shown(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def vectors(case: Case) -> str | None:
    """Known values have the vectors that polars, in one piece, reads for them, others zeros."""
    try:
        table = pl.read_parquet(case.file.read_bytes(), parallel="none", low_memory=True)
        given = dict(zip(table["value"].to_list(), table["vector"].to_list(), strict=True))
        words = pl.read_parquet(case.directory / "out/vocabulary.parquet").filter(field="city")["value"]
        length = len(table["vector"][0])
        rows = [given.get(word, [0.0] * length) for word in words]
        expected = np.array([[0.0] * length, *rows, [0.0] * length], np.float32)
        if len(given) < len(table) or not np.isfinite(expected).all():
            raise ValueError("a value twice, or a number that is none")
    except Exception as error:
        return f"a plain reader refuses it ({error!r})"
    (path,) = (case.directory / "out/vectors").iterdir()
    return None if np.array_equal(np.load(path), expected) else "other vectors"
