"""The command ``deltaglider_proxy``.

Exit codes: 0 done, 1 the start was refused, 2 usage, 3 a file cannot be read or written,
4 a configuration is wrong, 6 a log filter is wrong.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from .configfile import EXIT_IO
from .errors import ConfigurationError
from .plugins import CORE_COMMANDS, core_version

PROGRAM = "deltaglider_proxy"
MAX_WORKERS = 256


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; usage errors exit with 2."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        parser = build_parser(_contributed(words))
        arguments = parser.parse_args(words)
        run: Callable[[argparse.Namespace], int] = arguments.run
        return run(arguments)
    except ConfigurationError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        # Whoever read our output has left, as in `plugins | head -1`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_IO
    except KeyboardInterrupt:
        return 130


class _Parser(argparse.ArgumentParser):
    """With help of a fixed width: it is also a page of the documentation."""

    def __init__(self, **options: Any) -> None:
        formatter = functools.partial(argparse.HelpFormatter, width=88)
        super().__init__(**{"formatter_class": formatter, **options})


def build_parser(contributed: Iterable[Any] = ()) -> argparse.ArgumentParser:
    """The parser of the whole command line.

    Args:
        contributed: ``Command`` records of plugins.
    """
    parser = _Parser(
        prog=PROGRAM,
        description="S3 endpoint that stores versions of similar files as deltas. "
        "Without a command it serves.",
        epilog="Exit codes: 0 done, 1 start refused, 2 usage, 3 input or output, 4 wrong "
        "configuration, 6 wrong log filter.",
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {core_version()}")
    _common_options(parser)
    _serve_options(parser)
    parser.set_defaults(run=_serve)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    serve = commands.add_parser("serve", help="serve S3 (the default)")
    _common_options(serve, again=True)
    _serve_options(serve, again=True)
    serve.set_defaults(run=_serve)

    quickstart = commands.add_parser(
        "quickstart",
        help="write a configuration on first use, print how to use it, and serve",
        description="On first use writes a configuration with a fresh key pair (mode 0600); an "
        "existing file is never changed. Then prints commands for the aws CLI and serves, on "
        "127.0.0.1:9000 unless the configuration says otherwise.",
    )
    _common_options(quickstart, again=True)
    _serve_options(quickstart, again=True)
    quickstart.add_argument("--data", metavar="DIR", help="directory of the objects (./data)")
    quickstart.add_argument(
        "--tls", action="store_true", help="https, with a self-signed certificate if none is set"
    )
    quickstart.set_defaults(run=_quickstart)

    _config_commands(commands)

    plugins = commands.add_parser(
        "plugins", help="show every stage in its resolved order, and where each entry comes from"
    )
    _common_options(plugins, again=True)
    plugins.set_defaults(run=_plugins)

    _state_commands(commands)

    for command in contributed:
        added = commands.add_parser(command.name, help=command.summary, description=command.summary)
        command.configure(added)
        added.set_defaults(run=command.run)
    return parser


def _config_commands(commands: Any) -> None:
    config = commands.add_parser("config", help="check configurations, print their schema")
    actions = config.add_subparsers(title="commands", metavar="COMMAND", required=True)
    lint = actions.add_parser(
        "lint",
        help="check a configuration file and open nothing",
        description="Checks a configuration file as a start would, without the DGP_* "
        "environment, and opens nothing but the certificate that it names. Warnings go to "
        "standard error.",
    )
    lint.add_argument("file", type=Path, metavar="FILE")
    lint.set_defaults(run=_lint)
    schema = actions.add_parser("schema", help="print the JSON Schema for the installed plugins")
    schema.add_argument("--out", type=Path, metavar="FILE", help="write it to a file instead")
    schema.set_defaults(run=_schema)


def _state_commands(commands: Any) -> None:
    """What looks at the state or the storage of a service, served at the same time or not."""
    for name, module, summary, description in (
        (
            "usage",
            "usage",
            "show how many objects and bytes buckets hold",
            "Shows what is counted with every write. STORED is what lies on the backend, "
            "references included and parts of open uploads not; PENDING counts writes that are "
            "under way.",
        ),
        (
            "reconcile",
            "usage",
            "count the objects of buckets anew, while they are in use",
            "Compares what is counted with a listing and corrects it. Needed once for buckets that "
            "held objects before, and after something else wrote to the backend.",
        ),
        (
            "events",
            "events",
            "show what happened to objects, and go on showing it",
            "Shows the journal of events, oldest first, as lines of text or JSON. A named cursor "
            "remembers how far a reader has come.",
        ),
        (
            "collect",
            "collect",
            "delete references that no object needs any more",
            "A reference that nothing names is condemned, and deleted by a later collection, once "
            "advanced.reference_grace_seconds have passed and a complete listing proves again that "
            "nothing names it.",
        ),
    ):
        command = commands.add_parser(name, help=summary, description=description)
        _common_options(command, again=True)
        functions = import_module(f"deltaglider_core.commands.{module}")
        getattr(functions, f"configure_{name}")(command)
        command.set_defaults(run=getattr(functions, f"run_{name}"))


def _common_options(parser: argparse.ArgumentParser, *, again: bool = False) -> None:
    # A subcommand repeats the options of the program. Its defaults must not overwrite what
    # was given before its name, so it has none.
    none: Any = argparse.SUPPRESS if again else None
    parser.add_argument(
        "-c", "--config", type=Path, metavar="FILE", default=none, help="configuration file"
    )
    parser.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        default=argparse.SUPPRESS if again else False,
        help="log at debug level",
    )


def _serve_options(parser: argparse.ArgumentParser, *, again: bool = False) -> None:
    parser.add_argument(
        "-l",
        "--listen",
        metavar="ADDR",
        default=argparse.SUPPRESS if again else None,
        help="address and port, such as 127.0.0.1:9000; port 0 takes a free one",
    )
    parser.add_argument(
        "--workers",
        type=_worker_count,
        metavar="N",
        default=argparse.SUPPRESS if again else 1,
        help="number of processes (1)",
    )


def _worker_count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= MAX_WORKERS:
        raise argparse.ArgumentTypeError(f"must be a number from 1 to {MAX_WORKERS}")
    return int(text)


def _contributed(words: Sequence[str]) -> Iterable[Any]:
    """Commands of plugins, loaded only if a word may be one of them or help is asked for."""
    parser = argparse.ArgumentParser(add_help=False)
    _common_options(parser)
    _serve_options(parser)
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("--version", action="store_true")
    parser.add_argument("command", nargs="?")
    try:
        known, _ = parser.parse_known_args(words)
    except SystemExit:
        raise SystemExit(2) from None  # argparse has said why
    command = known.command
    if command in CORE_COMMANDS or known.version or (command is None and not known.help):
        return ()
    from .loading import load_plugins_for

    try:
        stage = load_plugins_for(known.config).stage("commands")
    except ConfigurationError as error:
        if not known.help:
            raise
        print(f"{PROGRAM}: the commands of plugins are missing here: {error}", file=sys.stderr)
        return ()
    return [entry.record for entry in stage.values()]


# --- the commands -----------------------------------------------------------------------


def _serve(arguments: argparse.Namespace) -> int:
    from .serve import ServeOptions, serve

    return serve(
        ServeOptions(
            config=os.fspath(arguments.config) if arguments.config is not None else None,
            listen=arguments.listen,
            workers=arguments.workers,
            verbose=arguments.verbose,
        )
    )


def _quickstart(arguments: argparse.Namespace) -> int:
    from .quickstart import quickstart

    return quickstart(
        config=arguments.config,
        listen=arguments.listen,
        data=arguments.data,
        tls=arguments.tls,
        workers=arguments.workers,
        verbose=arguments.verbose,
    )


def _lint(arguments: argparse.Namespace) -> int:
    from .loading import lint

    warnings = lint(arguments.file).warnings
    for warning in warnings:
        print(f"{arguments.file}: warning: {warning}", file=sys.stderr)
    count = len(warnings)
    suffix = f" with {count} warning{'s' if count > 1 else ''}" if count else ""
    print(f"{arguments.file}: ok{suffix}")
    return 0


def _schema(arguments: argparse.Namespace) -> int:
    from .loading import load_plugins_for
    from .settings_assembly import config_schema

    schema = config_schema(load_plugins_for(arguments.config))
    text = json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
    if arguments.out is None:
        sys.stdout.write(text)
        return 0
    try:
        arguments.out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(
            f"cannot write {arguments.out}: {error.strerror or error}", exit_code=EXIT_IO
        ) from error
    return 0


def _plugins(arguments: argparse.Namespace) -> int:
    from .loading import load
    from .stages import render_table, resolve

    loaded = load(config=arguments.config)
    for warning in loaded.warnings:
        print(f"{PROGRAM}: warning: {warning}", file=sys.stderr)
    print(render_table(resolve(loaded.settings, loaded.plugins)))
    return 0


__all__ = ["build_parser", "main"]
