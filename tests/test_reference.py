"""The reference has every public name, and no other: what it takes from the code is there."""

import importlib
import re
from pathlib import Path

import pytest

import ektf_jax
from docs import config_keys, pages
from ektf_jax import losses, metrics, students, transfer

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "reference"
TEXT = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.md")}
TAKEN = [name for text in TEXT.values() for name in re.findall(r"^::: ([\w.]+)$", text, re.M)]


def found(name):
    """What a dotted name stands for: a module, or a name in one."""
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except AttributeError:
        return importlib.import_module(name)


OBJECTS = [found(name) for name in TAKEN]


def public(module):
    """The functions and classes of a module that do not say they are private."""
    return [
        value
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]


def missing(names):
    return [name for name, value in names.items() if not any(value is one for one in OBJECTS)]


def test_what_is_taken_is_there_once_and_documented():
    assert len(TAKEN) == len(set(TAKEN)) > 60
    assert [name for name, value in zip(TAKEN, OBJECTS, strict=True) if not value.__doc__] == []


def test_every_public_name_of_the_package():
    assert missing({name: getattr(ektf_jax, name) for name in ektf_jax.__all__}) == []
    listed = re.findall(r"^\| `(\w+)` \| \[", TEXT["index.md"], re.M)
    assert sorted(listed) == sorted(ektf_jax.__all__)


@pytest.mark.parametrize("module", [losses, metrics])
def test_every_public_name_of_losses_and_metrics(module):
    assert missing({value.__name__: value for value in public(module)}) == []
    assert len(public(module)) >= 8


def test_every_contract_function_stands_beside_its_equation():
    mathematics = (ROOT / "docs" / "mathematics.md").read_text(encoding="utf-8")
    functions = [value.__name__ for value in public(losses) if value is not losses.Terms]
    assert [name for name in functions if f"losses.{name}(" not in mathematics] == []


def test_every_student_method_and_metric():
    assert missing(students.REGISTRY) == []
    assert re.findall(r"^## `(\w+)`", TEXT["students.md"], re.M) == list(students.REGISTRY)
    assert missing(transfer.METHODS) == []
    assert re.findall(r"^## `(\w+)`", TEXT["transfer.md"], re.M) == list(transfer.METHODS)
    assert missing({name: getattr(transfer, name) for name in transfer.__all__ if name != "METHODS"}) == []
    methods = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", methods, re.M) == list(transfer.METHODS)
    assert missing({name: metric.function for name, metric in metrics.METRICS.items()}) == []
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (?:`(\w+)` )?\|$", TEXT["metrics.md"], re.M)
    assert rows == [(n, m.better, *(m.needs or ("",))) for n, m in metrics.METRICS.items()]


def test_every_key_of_the_config():
    """`python -m docs.config_keys` writes them anew."""
    assert TEXT["config.md"].partition(config_keys.MARK)[2].strip() == config_keys.tables().strip()


def test_every_page_is_in_the_site_and_every_link_leads_somewhere(tmp_path):
    """The build finds more, anchors and references, but needs the extra `docs`."""
    named = pages.named()
    assert set((ROOT / "docs").rglob("*.md")) <= set(named)
    pages.lay_out(tmp_path)
    laid_out = list(tmp_path.rglob("*.md"))
    assert {path.relative_to(ROOT).with_suffix(".md") for path in named} == {
        path.relative_to(tmp_path) for path in laid_out
    }
    links = [
        (path, link) for path in laid_out for link in pages.LINK.findall(path.read_text(encoding="utf-8"))
    ]
    assert len(links) > 50
    assert [(path, link) for path, link in links if not (path.parent / link).exists()] == []
