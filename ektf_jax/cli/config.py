"""The flag --config of the command lines that take one, and --config.KEY=VALUE for every key of it."""

import ast
import importlib.util
import inspect
import re
import sys
import types
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ml_collections
from absl import flags

from ektf_jax.cli import shell
from ektf_jax.config import Config, current_names, is_group, kinds
from ektf_jax.errors import InputError, cause, nearest
from ektf_jax.keys import plain, prefer_former

_ADVICE = "ektf_jax/config.py has the keys of every config"


def define() -> flags.FlagHolder:
    """The flag --config=FILE[:ARG], with --config.KEY=VALUE for every key."""
    flag = flags.DEFINE_string("config", None, "The experiment's config file, FILE or FILE:ARGUMENT.")
    flags.DEFINE_multi_string("override", [], "KEY=VALUE, for which --config.KEY=VALUE is the usual way.")
    flags.mark_flag_as_required("config")
    return flag


def read(flag: flags.FlagHolder) -> dict[str, Any]:
    """The config as plain nested data, with what the command line changes of it.

    Raises InputError for a file that is no config, and for a change of a key that cannot be.
    """
    config = load(flag.value)
    changed: dict[tuple[str, ...], str] = {}
    for text in flags.FLAGS["override"].value or ():
        keys, value = shell.keys_and_value(text)
        assert value is not None  # or shell had refused it
        for earlier, before in changed.items():
            if earlier == keys and before != value:
                raise InputError(f"--config.{_path(keys)} is given twice, as {before!r} and as {value!r}")
            if earlier[: len(keys)] == keys and earlier != keys:
                raise InputError(
                    f"--config.{_path(keys)} comes after --config.{_path(earlier)}, which is a part of it;"
                    " give it first"
                )
        changed[keys] = value
        change(config, keys, value)
    return config


def read_run(flag: flags.FlagHolder) -> Config:
    """The config of one run."""
    return Config.from_dict(read(flag))


def load(given: str) -> dict[str, Any]:
    """What get_config of a config file returns, as plain nested data. `given` is FILE or FILE:ARGUMENT.

    Raises InputError, naming file and line, for whatever goes wrong in the file.
    """
    file, arguments = _file_and_arguments(given)
    if not file.is_file():
        said = "is not a file" if file.exists() else "no such file"
        raise InputError(f"--config={given}: {file}: {said}; give a Python file like those in configs/")
    try:
        get_config = _function(file)
        try:
            inspect.signature(get_config).bind(*arguments)
        except TypeError:
            needs = "takes no argument" if arguments else "needs an argument, --config=FILE:ARGUMENT"
            raise InputError(f"--config={given}: get_config of {file} {needs}") from None
        config = get_config(*arguments)
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # it is the user's program
        said = cause(error)
        if "ConfigDict does not accept dots" in said:
            said = said.rstrip(".") + "; a plain dictionary does, and get_config may return one"
        raise InputError(f"--config={given}: {_place(error, file)}: {said}") from error
    if not isinstance(config, Mapping | ml_collections.ConfigDict):
        raise InputError(
            f"--config={given}: get_config of {file} returned {type(config).__name__}, not a config;"
            " build it on configs/base.py and return it"
        )
    try:
        nested: dict[str, Any] = plain(config)
    except Exception as error:  # a placeholder of ml_collections' raises what it likes
        raise InputError(f"--config={given}: {cause(error)}") from None
    runs = nested.get("runs")
    for run in (nested, *(runs.values() if isinstance(runs, dict) else ())):
        prefer_former(Config, run)
    return nested


def _file_and_arguments(given: str) -> tuple[Path, list[str]]:
    """The file and, if there is one, its argument: what follows a colon, unless the name has it.

    A file of configs/ that is not in the current directory is the one that comes with the package.
    """
    colons = [match.start() for match in re.finditer(":", given)]
    for end in (len(given), *reversed(colons)):
        file = shell.find(Path(given[:end]))
        if file.is_file():
            return file, [given[end + 1 :]] if end < len(given) else []
    name, *arguments = given.split(":", 1)
    return Path(name), arguments


def _function(file: Path) -> Callable[..., Any]:
    """get_config of a config file, which is run; nothing is left beside it."""
    _offer_configs()
    module = types.ModuleType("config_file")
    module.__file__ = str(file)
    sys.modules[module.__name__] = module  # where dataclasses look for their module
    exec(compile(file.read_bytes(), str(file), "exec"), module.__dict__)
    get_config = getattr(module, "get_config", None)
    if not callable(get_config):
        raise InputError(f"{file}: has no function get_config; see configs/base.py")
    return get_config


def _offer_configs() -> None:
    """Have `from configs import base` work in any config file, in whatever directory.

    Modules of a folder configs/ in the current directory come before those that come with the package.
    """
    if "configs" in sys.modules:
        return
    places = [str(Path("configs").absolute()), str(shell.CONFIGS)]
    spec = importlib.util.spec_from_file_location(
        "configs", shell.CONFIGS / "__init__.py", submodule_search_locations=places
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["configs"] = module
    spec.loader.exec_module(module)


def _place(error: BaseException, file: Path) -> str:
    """Where in a config file something was raised, or by what it called."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    line, trace = None, error.__traceback__
    while trace is not None:
        line = trace.tb_lineno if trace.tb_frame.f_code.co_filename == str(file) else line
        trace = trace.tb_next
    return f"{file}, line {line}" if line else str(file)


def _path(keys: tuple[str, ...]) -> str:
    return ".".join(keys)


def change(config: dict[str, Any], keys: tuple[str, ...], text: str) -> None:
    """Set a key of a nested config to a value of its type."""
    # Below config.runs the keys of a run follow its name.
    runs = keys[:2] if keys[0] == "runs" else ()
    keys = (*runs, *current_names(keys[len(runs) :]))
    path, group = f"--config.{_path(keys)}", config
    for depth, key in enumerate(keys[:-1], start=1):
        if key not in group and is_group(keys[len(runs) : depth]):
            group[key] = {}  # what a plain dictionary leaves out has its defaults
        if not isinstance(group.get(key), dict):
            hint = nearest(key, [k for k, v in group.items() if isinstance(v, dict)])
            raise InputError(f"{path}: the config has no group {_path(keys[:depth])!r}; {hint}{_ADVICE}")
        group = group[key]
    several = len(kinds(keys[len(runs) :])) > 1
    value = _literal(text) if several else _value(path, text, group.get(keys[-1]))
    group[keys[-1]] = plain(value, path.removeprefix("--"))


_PARSERS: dict[type, flags.ArgumentParser] = {
    bool: flags.BooleanParser(),
    int: flags.IntegerParser(),
    float: flags.FloatParser(),
    str: flags.ArgumentParser(),
}


def _value(path: str, text: str, old: Any) -> Any:
    """A value written on the command line, of the type of the one that it replaces.

    One that replaces nothing is what it looks like: a Python literal, true or false, or else text.
    """
    if type(old) in _PARSERS:
        try:
            return _PARSERS[type(old)].parse(text)
        except (ValueError, TypeError, OverflowError):
            raise InputError(f"{path}={text} must be of type {type(old).__name__}, like {old!r}") from None
    value = _literal(text)
    if isinstance(old, dict):
        if not isinstance(value, dict):
            raise InputError(f"{path}={text} must be a group of keys, like {{'key': 1}}")
        return value
    if isinstance(old, tuple | list):
        if isinstance(value, str) and "," in value:
            raise InputError(f"{path}={text} must be of type tuple; quote its parts, as in ('a', 'b')")
        value = tuple(value) if isinstance(value, tuple | list) else (value,)
    return value


def _literal(text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the parser, about what is text after all
            return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text
