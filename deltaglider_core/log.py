"""Logs: structlog on standard error, as text or JSON; other libraries' loggers join in."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Literal, TextIO

import structlog

#: ``trace`` is below ``debug``; the standard library has no such level, uvicorn uses 5.
LEVELS: Mapping[str, int] = {
    "off": logging.CRITICAL + 10,
    "error": logging.ERROR,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
    "trace": 5,
}

#: All of our loggers are this one or below it.
OUR_LOGGER = "deltaglider_proxy"

#: Names in a filter that stand for loggers of other names.
ALIASES: Mapping[str, str] = {"deltaglider": OUR_LOGGER, "deltaglider_core": OUR_LOGGER}

#: Libraries whose ``info`` is noise beside ours; a filter can name them.
QUIET: Mapping[str, int] = {
    "alembic": logging.WARNING,
    "asyncio": logging.WARNING,
    "uvicorn": logging.WARNING,
}


class LogFilterError(ValueError):
    """A log filter that cannot be understood."""

    exit_code = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class LogFilter:
    """A parsed filter.

    Attributes:
        default: Level of every logger that is not named.
        targets: Level by logger name.
    """

    default: int = logging.INFO
    targets: Mapping[str, int] = field(default_factory=dict)


def parse_filter(text: str) -> LogFilter:
    """Parse ``info`` or ``deltaglider_proxy=debug,uvicorn=warn``, or both mixed.

    Raises:
        LogFilterError: A level is unknown or a target is empty.
    """
    default: int | None = None
    targets: dict[str, int] = {}
    for part in text.split(","):
        target, equals, level_text = part.strip().rpartition("=")
        level = LEVELS.get(level_text.strip().lower())
        if level is None:
            raise LogFilterError(
                f"{level_text.strip()!r} is not a log level; use off, error, warn, info, debug "
                "or trace, or a list such as deltaglider_proxy=info,uvicorn=warn"
            )
        if not equals:
            if default is not None:
                raise LogFilterError("a log filter has one level without a name, not two")
            default = level
            continue
        name = target.strip().replace("::", ".")
        if not name:
            raise LogFilterError(f"a name is missing before ={level_text.strip()}")
        targets[ALIASES.get(name, name)] = level
    return LogFilter(default=logging.INFO if default is None else default, targets=targets)


def _drop_color_message(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    # uvicorn passes a second, coloured copy of its message as an extra.
    event.pop("color_message", None)
    return event


_SHARED: tuple[structlog.typing.Processor, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.PositionalArgumentsFormatter(),
    structlog.stdlib.ExtraAdder(),
    _drop_color_message,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
)


def _formatter(log_format: Literal["text", "json"], *, colors: bool) -> logging.Formatter:
    # Tracebacks come without local variables: they can hold a secret.
    render: list[structlog.typing.Processor]
    if log_format == "json":
        render = [
            structlog.processors.ExceptionRenderer(
                structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
            ),
            structlog.processors.JSONRenderer(ensure_ascii=True, default=str),
        ]
    else:
        render = [
            structlog.dev.ConsoleRenderer(
                colors=colors,
                pad_event_to=0,
                pad_level=False,
                exception_formatter=structlog.dev.plain_traceback,
            )
        ]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=list(_SHARED),
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
    )


def configure_logging(
    log_level: str,
    log_format: Literal["text", "json"],
    *,
    verbose: bool = False,
    stream: TextIO | None = None,
) -> None:
    """Set logging of this process up, or change it; may be called again at any time.

    Args:
        log_level: A filter, see ``parse_filter``.
        log_format: ``text`` or ``json``.
        verbose: Our own loggers write ``debug``, whatever the filter says.
        stream: Standard error unless given.
    """
    chosen = parse_filter(log_level)
    levels = {**QUIET, **chosen.targets}
    if verbose:
        levels[OUR_LOGGER] = logging.DEBUG
    target = sys.stderr if stream is None else stream
    handler = logging.StreamHandler(target)
    handler.setFormatter(_formatter(log_format, colors=target.isatty()))

    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(chosen.default)
    logging.addLevelName(LEVELS["trace"], "TRACE")
    for name in _configured - set(levels):
        logging.getLogger(name).setLevel(logging.NOTSET)
    for name, level in levels.items():
        logger = logging.getLogger(name)
        logger.setLevel(level)
        logger.handlers[:] = []
        logger.propagate = True
    _configured.clear()
    _configured.update(levels)
    logging.captureWarnings(True)
    structlog.configure(
        processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


#: Loggers whose level this module set, so that a new filter can undo the old one.
_configured: set[str] = set()


def get_logger(name: str = "") -> Any:
    """Our structlog logger, or one below it, e.g. ``deltaglider_proxy.serve``."""
    return structlog.stdlib.get_logger(f"{OUR_LOGGER}.{name}" if name else OUR_LOGGER)


__all__ = ["LogFilter", "LogFilterError", "configure_logging", "get_logger", "parse_filter"]
