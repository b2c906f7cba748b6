"""Config files and overrides: a config, or one line that names file, line, key and value."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ektf_jax.cli import config, shell
from ektf_jax.config import Config
from ektf_jax.errors import InputError

ROOT = Path(__file__).resolve().parents[2]


def overrides(examples, seed):
    command = [sys.executable, str(Path(__file__).with_name("overrides.py")), str(examples), str(seed)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr[-3000:]
    outcomes = json.loads(done.stdout.splitlines()[-1])
    assert outcomes["run"] > 0.1 * examples
    assert outcomes["refused"] > 0.1 * examples


def test_random_overrides_give_a_config_or_one_line():
    overrides(60, 0)


@pytest.mark.long
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_many_random_overrides_give_a_config_or_one_line(seed):
    overrides(300, seed)


FILES = {
    "raises.py": ("import x_y_z", "raises.py, line 1: ModuleNotFoundError: No module named 'x_y_z'"),
    "fails.py": ("def get_config():\n    return 1 // 0", "fails.py, line 2: ZeroDivisionError: "),
    "key.py": ("def get_config():\n    return {}['a']", "key.py, line 2: KeyError: 'a'"),
    "value.py": ("def get_config():\n    int('a\\nb')", "value.py, line 2: invalid literal"),
    "ends.py": ("import sys\nsys.exit(3)", "ends.py, line 2: SystemExit: 3"),
    "asserts.py": ("assert False", "asserts.py, line 1: AssertionError"),
    "deep.py": ("def f():\n    f()\n\n\nget_config = f", "deep.py, line 2: RecursionError: maximum"),
    "dots.py": (
        "import ml_collections as m\n\n\ndef get_config():\n    return m.ConfigDict({'runs': {'a.b': 1}})",
        "but the key a.b contains one; a plain dictionary does, and get_config may return one",
    ),
    "placeholder.py": (
        "from ml_collections import config_dict as c\n\n\ndef get_config():\n"
        "    return c.ConfigDict({'a': c.required_placeholder(int)})",
        "placeholder.py: RequiredValueError: ",
    ),
    "syntax.py": ("def get_config(:", "syntax.py, line 1: SyntaxError: "),
    "nothing.py": ("", "nothing.py: has no function get_config"),
    "number.py": ("get_config = 3", "number.py: has no function get_config"),
    "config.json": ('{"seed": 1}', "config.json: has no function get_config"),
    "config.yaml": ("seed: 1\ndata:\n  path: x", "config.yaml, line 2: SyntaxError: "),
    "none.py": ("def get_config():\n    pass", "get_config of FILE returned NoneType, not a config"),
    "list.py": ("def get_config():\n    return [1]", "get_config of FILE returned list, not a config"),
    "class.py": ("class get_config:\n    pass", "get_config of FILE returned get_config, not a config"),
    "set.py": ("def get_config():\n    return {'a': {1, 2}}", "config.a is of type builtins.set"),
    "array.py": (
        "import numpy\ndef get_config():\n    return {'a': numpy.ones(2)}",
        "config.a is of type numpy.nd",
    ),
    "needs.py": ("def get_config(which):\n    return {}", "get_config of FILE needs an argument"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_config_is_named(tmp_path, name):
    text, message = FILES[name]
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        config.load(str(tmp_path / name))
    assert message.replace("FILE", str(tmp_path / name)) in str(caught.value)
    assert str(tmp_path / name) in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"\x00", b"# coding: nonsense\n", b"a = '\xe9'"])
def test_a_file_that_is_no_text_is_named(tmp_path, content):
    (tmp_path / "x.py").write_bytes(content)
    with pytest.raises(InputError, match=r"x\.py.*: "):
        config.load(str(tmp_path / "x.py"))


@pytest.mark.parametrize(
    "given_", ["nowhere.py", "", ":", ":a", ".", "configs", "configs/base", "/dev/null/x", "a\0b"]
)
def test_what_is_no_file_is_named(given_):
    with pytest.raises(InputError, match=r"no such file|is not a file"):
        config.load(given_)


def test_an_argument_follows_the_file_s_name_whatever_colons_that_has(tmp_path):
    folder = tmp_path / "a:b"
    folder.mkdir()
    (folder / "c:d.py").write_text(
        "def get_config(which='nothing'):\n    return {'a': which}", encoding="utf-8"
    )
    path = str(folder / "c:d.py")
    assert config.load(path) == {"a": "nothing"}
    assert config.load(f"{path}:") == {"a": ""}
    assert config.load(f"{path}:x:y") == {"a": "x:y"}
    with pytest.raises(InputError, match="takes no argument"):
        config.load("configs/quickstart.py:x")
    with pytest.raises(InputError, match=r"^the config's argument 'x' has 1 parts, not 2$"):
        config.load("configs/table2.py:x")


def test_a_config_is_plain_data(tmp_path):
    text = """
from dataclasses import dataclass

import jax.numpy as jnp
import ml_collections
import numpy as np


@dataclass
class Settings:
    rate: float = 0.5


def get_config():
    group = ml_collections.FrozenConfigDict({"a": np.int64(3), "b": (jnp.float32(0.5), Settings().rate)})
    return {"runs": {"v1.0": group}, "n": np.float64(1.5), "é": np.str_("é"), "t": np.bool_(True)}
"""
    (tmp_path / "x.py").write_text(text, encoding="utf-8")
    made = config.load(str(tmp_path / "x.py"))
    assert made == {"runs": {"v1.0": {"a": 3, "b": (0.5, 0.5)}}, "n": 1.5, "é": "é", "t": True}
    assert type(made["n"]) is float
    assert type(made["é"]) is str
    assert type(made["t"]) is bool
    assert type(made["runs"]["v1.0"]) is dict


@pytest.mark.parametrize(
    ("keys", "there"),
    [
        (("transfer", "Focal", "gamma"), {"transfer": {"name": "focal:Focal"}}),
        (("transfer", "dml", "reduction"), {}),
        (("runs", "one", "transfer", "Focal", "gamma"), {"runs": {"one": {}}}),
    ],
)
def test_the_options_of_any_method_can_be_set(keys, there):
    """Of one's own, and of ours where a plain config leaves them out."""
    config.change(there, keys, "3")
    for key in keys:
        there = there[key]
    assert there == 3


@pytest.mark.parametrize("keys", [("transfer", "name", "x"), ("transfer", "Focal", "gamma", "x")])
def test_what_is_no_group_of_options_is_named(keys):
    with pytest.raises(InputError, match=r"the config has no group"):
        config.change({"transfer": {"name": "focal:Focal"}}, keys, "3")


def test_configs_are_there_from_any_directory(tmp_path, monkeypatch):
    """Those of the current directory come first, module by module."""
    for name in _configs():
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place not in ("", str(ROOT))])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/mine.py").write_text("WIDTH = 7\n", encoding="utf-8")
    (tmp_path / "configs/table4.py").write_text(
        "from configs import base, mine\n\n\ndef get_config():\n    config = base.get_config()\n"
        "    config.embedding.dim = mine.WIDTH\n    return config\n",
        encoding="utf-8",
    )
    try:
        assert config.load("configs/table2.py:ml1m,ecn")["data"]["path"] == "data/ml1m"
        assert config.load("configs/table4.py")["embedding"]["dim"] == 7
    finally:
        for name in _configs():
            del sys.modules[name]


def _configs():
    return [name for name in sys.modules if name.partition(".")[0] == "configs"]


# Overrides

BASE = {"i": 1, "f": 0.5, "b": True, "s": "x", "t": (1, 2), "g": {"i": 1, "a.b": {"c": 1}, "": 2}, "n": None}


def changed(text):
    made = json.loads(json.dumps(BASE)) | {"t": (1, 2)}
    keys, value = shell.keys_and_value(text)
    config.change(made, keys, value)
    for key in keys:
        made = made[key]
    return made


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("i=-0", 0),
        ("i=0x10", 16),
        ("f=1", 1.0),
        ("f=1e3", 1000.0),
        ("b=false", False),
        ("b=0", False),
        ("s=1", "1"),
        ("s=", ""),
        ("s=a=b", "a=b"),
        ("s='a'", "'a'"),
        ("t=(3,)", (3,)),
        ("t=[3, 4]", (3, 4)),
        ("t=3", (3,)),
        ("t=()", ()),
        ("t=a", ("a",)),
        ("t=/a-b", ("/a-b",)),
        ("g={'x': 1}", {"x": 1}),
        ("g.i=7", 7),
        ("g.new=7", 7),
        ("g.new=true", True),
        ("g.new=a b", "a b"),
        ("g.new=", ""),
        ("g.new=(1", "(1"),
        ("n=3", 3),
        ('g["a.b"].c=3', 3),
        ("g['a.b']['c']=3", 3),
        ('["g"].i=3', 3),
        ('g[""]=3', 3),
        ("g.é=3", 3),
    ],
)
def test_a_value_has_the_type_of_the_one_that_it_replaces(text, value):
    made = changed(text)
    assert made == value
    assert type(made) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("i=1.0", "--config.i=1.0 must be of type int, like 1"),
        ("i=", "--config.i= must be of type int"),
        ("i=" + "9" * 5000, "must be of type int"),
        ("f=a", "--config.f=a must be of type float, like 0.5"),
        ("b=maybe", "--config.b=maybe must be of type bool, like True"),
        ("t=a,b", "quote its parts, as in ('a', 'b')"),
        ("t=({1},)", "config.t[0] is of type builtins.set"),
        ("g=1", "--config.g=1 must be a group of keys"),
        ("g={", "--config.g={ must be a group of keys"),
        ("g={1: 2}", "config.g has the key 1, which must be text"),
        ("g.new=b'x'", "config.g.new is of type builtins.bytes"),
        ("g.new=1j", "config.g.new is of type builtins.complex"),
        ("i.x=1", "--config.i.x: the config has no group 'i'"),
        ("s.upper=1", "--config.s.upper: the config has no group 's'"),
        ("t.x=1", "the config has no group 't'"),
        ("gg.x=1", "the config has no group 'gg'; did you mean 'g'?"),
        ("g.a.b=1", "the config has no group 'g.a'"),
        ("=1", "--config.=1: names no key"),
        (".=1", "names no key"),
        (".i=1", "names no key"),
        ("g.=1", "names no key"),
        ("g..i=1", "names no key"),
        ("t[0]=1", "names no key"),
        ("g[i]=1", "names no key"),
        ("g]=1", "names no key"),
        ("g['i=1", "names no key"),
    ],
)
def test_a_change_that_cannot_be_is_named(text, message):
    with pytest.raises(InputError) as caught:
        changed(text)
    assert message in str(caught.value)


@given(st.lists(st.text(min_size=1).filter(lambda key: '"' not in key), min_size=1), st.text())
def test_any_key_can_be_written_in_brackets(keys, value):
    text = "".join(f'["{key}"]' for key in keys)
    assert shell.keys_and_value(f"{text}={value}") == (tuple(keys), value)
    assert shell.keys_and_value(text) == (tuple(keys), None)


@pytest.mark.parametrize(
    ("argv", "spelled"),
    [
        (["--config=a", "--config.b=1"], ["--config=a", "--override=b=1"]),
        (["-config.b", "1", "x"], ["--override=b=1", "x"]),
        (["--config.b", "-1"], ["--override=b=-1"]),
        (['--config["a.b"].c=1'], ['--override=["a.b"].c=1']),
        (
            ["--configs", "--config", "c", "--", "--config.b"],
            ["--configs", "--config", "c", "--", "--config.b"],
        ),
    ],
)
def test_overrides_are_spelled_out(argv, spelled):
    assert shell._spell_out(argv) == spelled


@pytest.mark.parametrize(
    "argv", [["--config.b"], ["--config.b", "--x"], ["--noconfig.b"], ["--config."], ["--config.=1"]]
)
def test_an_override_without_key_or_value_is_refused(argv):
    with pytest.raises(InputError, match=r"^--(no)?config\."):
        shell._spell_out(argv)


@pytest.mark.parametrize(("text", "value"), [("own", "own"), ("0.5", 0.5), ("1", 1)])
def test_a_key_of_two_types_takes_both(text, value):
    made = config.load("configs/quickstart.py")
    config.change(made, ("embedding", "sharing"), text)
    assert made["embedding"]["sharing"] == value
    sweep = {"runs": {"a": config.load("configs/quickstart.py")}}
    config.change(sweep, ("runs", "a", "embedding", "sharing"), text)
    assert sweep["runs"]["a"]["embedding"]["sharing"] == value


def test_a_former_name_of_a_key_sets_it():
    made = config.load("configs/quickstart.py")
    config.change(made, ("ensemble", "products"), "bfloat16")
    sweep = {"runs": {"a": config.load("configs/quickstart.py")}}
    config.change(sweep, ("runs", "a", "ensemble", "products"), "bfloat16")
    for changed in (made, sweep["runs"]["a"]):
        assert changed["ensemble"]["matmul_dtype"] == "bfloat16"
        assert "products" not in changed["ensemble"]


@pytest.mark.parametrize("runs", [False, True])
def test_a_config_file_of_an_older_version_sets_a_former_name_on_the_base(tmp_path, runs):
    (tmp_path / "old.py").write_text(
        "from configs import base\n\n\ndef get_config():\n    config = base.get_config()\n"
        "    config.ensemble.products = 'bfloat16'\n"
        f"    return {{'runs': {{'a': config.to_dict()}}}} if {runs} else config\n"
    )
    made = config.load(str(tmp_path / "old.py"))
    made = made["runs"]["a"] if runs else made
    assert Config.from_dict(made).ensemble.matmul_dtype == "bfloat16"


def test_two_names_of_a_key_that_both_are_set_are_refused(tmp_path):
    (tmp_path / "old.py").write_text(
        "def get_config():\n    return {'ensemble': {'products': 'float32', 'matmul_dtype': 'bfloat16'}}\n"
    )
    with pytest.raises(InputError, match="both are there; drop one"):
        Config.from_dict(config.load(str(tmp_path / "old.py")))
