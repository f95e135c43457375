"""The YAML file: where it is searched, how it is read, and ``${env:NAME}`` in it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from .errors import ConfigurationError

EXIT_IO = 3
EXIT_PARSE = 4

#: Tried in this order when neither ``--config`` nor ``DGP_CONFIG`` names a file.
SEARCH_PATH: tuple[str, ...] = (
    "deltaglider_proxy.yaml",
    "deltaglider_proxy.yml",
    "deltaglider_proxy.toml",
    "/etc/deltaglider_proxy/config.yaml",
    "/etc/deltaglider_proxy/config.yml",
    "/etc/deltaglider_proxy/config.toml",
)

MAX_FILE_BYTES = 1024 * 1024

#: Most nodes of a document after its aliases have been followed; a few lines of aliases of
#: aliases would otherwise stand for billions.
MAX_NODES = 100_000

#: Most levels; the time that PyYAML takes for brackets grows with the square of their depth.
MAX_DEPTH = 64

_REFERENCE = re.compile(r"\$\$|\$\{env:(?P<body>[^}]*)\}|\$\{(?P<open>env:)?")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def find_config(
    flag: Path | None, environ: Mapping[str, str], directory: Path | None = None
) -> Path | None:
    """The configuration file: that of ``--config``, of ``DGP_CONFIG``, or the first found.

    Args:
        flag: Value of ``--config``.
        environ: The environment.
        directory: Where relative names of the search begin; the working directory.

    Returns:
        A path, which may be missing if somebody named it; None if nothing was found.
    """
    if flag is not None:
        return flag
    if "DGP_CONFIG" in environ:
        named = environ["DGP_CONFIG"]
        if not named:
            raise ConfigurationError("DGP_CONFIG is empty; name a file or unset it")
        return Path(named)
    for name in SEARCH_PATH:
        candidate = (directory or Path()) / name
        if os.path.lexists(candidate):
            return candidate
    return None


def read_config(path: Path, environ: Mapping[str, str]) -> dict[str, Any]:
    """Read a file and expand the references to the environment in it.

    Args:
        path: The file; an empty one is an empty configuration.
        environ: Where ``${env:NAME}`` is looked up.

    Raises:
        ConfigurationError: With exit code 3 if it cannot be read, 4 if it cannot be parsed.
    """
    if path.suffix.lower() == ".toml":
        raise ConfigurationError(
            f"{path}: TOML is not supported by this version; write the same settings as YAML",
            exit_code=EXIT_PARSE,
        )
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(
            f"cannot read the configuration {path}: {error.strerror or error}", exit_code=EXIT_IO
        ) from error
    if len(raw) > MAX_FILE_BYTES:
        raise ConfigurationError(
            f"{path}: a configuration has at most {MAX_FILE_BYTES} bytes", exit_code=EXIT_PARSE
        )
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"{path}: not UTF-8 at byte {error.start}", exit_code=EXIT_PARSE
        ) from error
    return parse_config(text, environ, source=str(path))


def parse_config(text: str, environ: Mapping[str, str], *, source: str) -> dict[str, Any]:
    """Parse YAML text; see ``read_config``. ``source`` names it in errors."""
    try:
        document = _parse(text, environ)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark is not None else source
        raise ConfigurationError(
            f"{where}: {error.problem or error.context}", exit_code=EXIT_PARSE
        ) from error
    except yaml.YAMLError as error:
        first = str(error).strip().splitlines()[0]
        raise ConfigurationError(f"{source}: {first}", exit_code=EXIT_PARSE) from error
    except ValueError as error:  # a date or a number that YAML recognises but cannot be
        raise ConfigurationError(f"{source}: {error}", exit_code=EXIT_PARSE) from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigurationError(
            f"{source}: the document must be a mapping with the sections admission, access, "
            "storage and advanced",
            exit_code=EXIT_PARSE,
        )
    return document


def _parse(text: str, environ: Mapping[str, str]) -> Any:
    loader = _Loader(text, environ)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _check_size(node)
        return loader.construct_document(node)
    finally:
        loader.dispose()


def expand(text: str, environ: Mapping[str, str]) -> str:
    """Expand ``${env:NAME}``, ``${env:NAME:-default}`` and ``$$`` in one scalar.

    The default counts when the variable is unset or empty. Other ``$`` stay as they are; the
    result is not expanded again.

    Raises:
        ValueError: A variable is unset, a name is none, a reference has no end, or a value has
            control characters. The text names the variable, never its value.
    """

    def replace(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        body = match["body"]
        if body is None:
            if match["open"] or "}" not in text[match.end() :]:
                raise ValueError("${ is not closed by }; write $$ for a plain $")
            return match[0]
        name, has_default, default = body.partition(":-")
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not the name of an environment variable")
        value = environ.get(name, "")
        if not value and has_default:
            value = default
        elif name not in environ:
            raise ValueError(
                f"the environment variable {name} is not set; set it or write "
                f"${{env:{name}:-default}}"
            )
        if _CONTROL.search(value):
            raise ValueError(f"the environment variable {name} has control characters")
        return value

    return _REFERENCE.sub(replace, text)


class _Loader(yaml.SafeLoader):
    """Safe YAML without duplicate keys, whose scalars may refer to the environment.

    Scalars are expanded after parsing, not the text before it: the value of a variable can
    contain any YAML syntax (``#``, ``: ``, quotes) and still is one scalar, so a secret needs
    no escaping and nothing can add keys. Comments are not looked at.
    """

    def __init__(self, text: str, environ: Mapping[str, str]) -> None:
        super().__init__(text)
        self._environ = environ
        self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise yaml.composer.ComposerError(
                None, None, "the document is nested too deeply", self.get_mark()
            )
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_scalar(self, node: Any) -> Any:
        if isinstance(node, yaml.MappingNode):  # the YAML 1.1 type "=", which nobody means
            raise yaml.constructor.ConstructorError(
                None, None, "expected a scalar, found a mapping", node.start_mark
            )
        return super().construct_scalar(node)

    def compose_scalar_node(self, anchor: Any) -> Any:
        node = super().compose_scalar_node(anchor)
        if "$" in node.value:
            try:
                value = expand(node.value, self._environ)
            except ValueError as error:
                raise yaml.constructor.ConstructorError(
                    None, None, str(error), node.start_mark
                ) from None
            if not value and node.style is None:
                # ``key: ${env:UNSET:-}`` is ``key:``, the default.
                node.tag = "tag:yaml.org,2002:null"
            node.value = value
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            # PyYAML converts what an explicit tag such as !!int names without checking it.
            raise yaml.constructor.ConstructorError(
                None, None, f"the value is no {node.tag.rpartition(':')[2]}", node.start_mark
            ) from error

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(
                    None, None, "a key must be a plain word", key_node.start_mark
                )
            # As it is written: a bucket may be called 2024 or on.
            key_node.tag = "tag:yaml.org,2002:str"
            if key_node.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key_node.value!r} occurs twice", key_node.start_mark
                )
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)


def _check_size(root: Any) -> None:
    """Refuse cycles and documents that become huge when aliases are followed."""
    sizes: dict[int, int | None] = {}

    def measure(node: Any) -> int:
        known = sizes.get(id(node), 0)
        if known is None:
            raise yaml.constructor.ConstructorError(
                None, None, "an alias contains itself", node.start_mark
            )
        if known:
            return known
        sizes[id(node)] = None
        total = 1
        if isinstance(node, yaml.SequenceNode):
            total += sum(measure(child) for child in node.value)
        elif isinstance(node, yaml.MappingNode):
            total += sum(measure(key) + measure(value) for key, value in node.value)
        if total > MAX_NODES:
            raise yaml.constructor.ConstructorError(
                None, None, f"the document has more than {MAX_NODES} values", node.start_mark
            )
        sizes[id(node)] = total
        return total

    measure(root)


__all__ = [
    "EXIT_IO",
    "EXIT_PARSE",
    "MAX_FILE_BYTES",
    "SEARCH_PATH",
    "expand",
    "find_config",
    "parse_config",
    "read_config",
]
