"""YAML files: plain data, read with errors to act on."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from ektf_jax.errors import InputError, cause


def read_yaml(path: Path, flag: str, page: str) -> Any:
    """What a YAML file holds: mappings, lists, text, numbers; nothing in it is run.

    Raises InputError where it cannot be read, is no YAML, or has a key twice. `flag` is what the path comes
    from, `page` where its keys are explained.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _Loader)  # a SafeLoader
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check {flag}") from None
    except InputError as error:
        raise InputError(f"{path}:{error}") from None
    # A tag that its value does not suit, such as `!!bool x`, is whatever the constructor trips over.
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, yaml.YAMLError) as error:
        raise InputError(f"{path}: is not YAML ({cause(error)}); see {page}") from None


def _is_text(value: str) -> bool:
    """Whether a text has characters alone: an escape in YAML may be half of one."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


class _Loader(yaml.SafeLoader):
    """Refuses keys that are there twice, of which the last would win."""

    def get_single_node(self) -> Any:
        node = super().get_single_node()
        self._check(node, set())
        return node

    def _check(self, node: Any, seen: set[int]) -> None:
        if node is None or id(node) in seen:  # an alias may even lead back to itself
            return
        seen.add(id(node))
        if isinstance(node, yaml.ScalarNode) and not _is_text(node.value):
            raise InputError(f"{node.start_mark.line + 1}: {node.value!a} is no text in UTF-8; correct it")
        if isinstance(node, yaml.SequenceNode):
            for child in node.value:
                self._check(child, seen)
        elif isinstance(node, yaml.MappingNode):
            lines: dict[Any, int] = {}
            for key, value in node.value:
                self._check(key, seen)
                self._check(value, seen)
                merged = key.tag == "tag:yaml.org,2002:merge"
                name = "<<" if merged else self.construct_object(key, deep=True)
                if not isinstance(name, Hashable):
                    continue  # the loader says so
                line = key.start_mark.line + 1
                if name in lines:
                    raise InputError(
                        f"{line}: the key {name!r} is on line {lines[name]} already; remove one of the two"
                    )
                lines[name] = line
