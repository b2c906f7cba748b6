"""Writes the tables of docs/reference/config.md from the config's declarations: python -m docs.config_keys"""

import dataclasses
import typing
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from ektf_jax import transfer
from ektf_jax.config import Config
from ektf_jax.keys import Rule

PAGE = Path(__file__).resolve().parent / "reference" / "config.md"
MARK = "<!-- python -m docs.config_keys -->\n"


def tables() -> str:
    """Return a table of the keys of every run, and one of the options of each method that has some."""
    parts = ["## Keys of every run\n", *_table(_keys(Config, ""))]
    for name, method in transfer.METHODS.items():
        if options := list(_keys(method, f"transfer.{name}.")):
            parts += [f"\n## Options of `{name}`\n", *_table(options)]
    return "\n".join(parts) + "\n"


def _table(rows: Any) -> Iterator[str]:
    yield "| key | default | |"
    yield "| --- | --- | --- |"
    yield from rows


def _keys(cls: type, path: str) -> Iterator[str]:
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        if dataclasses.is_dataclass(hint := hints[field.name]):
            yield from _keys(typing.cast(type, hint), f"{path}{field.name}.")
        elif not field.metadata["rest"]:
            default = field.default
            if default is dataclasses.MISSING:
                default = typing.cast(Any, field.default_factory)()
            shown = repr(dict(default) if isinstance(default, Mapping) else default)
            meaning = field.metadata["meaning"] + _wanted(field.metadata["rule"])
            yield f"| `{path}{field.name}` | `{shown}` | {meaning.replace('|', '/')} |"


def _wanted(rule: Rule | Collection[str] | None) -> str:
    if rule is None:
        return ""
    return f" Valid: {rule.wanted.strip() if isinstance(rule, Rule) else ', '.join(rule)}."


def main() -> None:
    """Write the tables into the page, below the mark."""
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(text[: text.index(MARK)] + MARK + "\n" + tables(), encoding="utf-8")


if __name__ == "__main__":
    main()
