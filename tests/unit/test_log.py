"""Log filters, formats, and what never gets into a log."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from deltaglider_core.log import LogFilterError, configure_logging, get_logger, parse_filter


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    """Leave the logging of the test process as it was."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    configure_logging("info", "text", stream=io.StringIO())
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_level_or_a_list_is_a_filter() -> None:
    assert parse_filter("WARN").default == logging.WARNING
    found = parse_filter("deltaglider_proxy=debug, uvicorn = off,error")
    assert found.default == logging.ERROR
    assert found.targets == {"deltaglider_proxy": 10, "uvicorn": 60}
    assert parse_filter("deltaglider_proxy::delta=trace").targets == {"deltaglider_proxy.delta": 5}


@pytest.mark.parametrize("text", ["", "loud", "a=", "=info", "info,warn", "a=info,,b=warn"])
def test_another_word_is_refused(text: str) -> None:
    with pytest.raises(LogFilterError) as caught:
        parse_filter(text)
    assert caught.value.exit_code == 6


def test_a_filter_decides_and_can_be_replaced() -> None:
    stream = io.StringIO()
    configure_logging("warn,deltaglider_proxy=debug,noisy=error", "json", stream=stream)
    get_logger("delta").debug("ours")
    logging.getLogger("noisy").warning("dropped")
    logging.getLogger("other").info("dropped")
    logging.getLogger("other").warning("kept %s", "whole")
    assert [line["event"] for line in lines(stream)] == ["ours", "kept whole"]
    stream = io.StringIO()
    configure_logging("info", "json", stream=stream)
    get_logger("delta").debug("dropped")
    logging.getLogger("noisy").info("free again")
    assert [line["event"] for line in lines(stream)] == ["free again"]


def test_verbose_shows_our_debug_lines() -> None:
    stream = io.StringIO()
    configure_logging("error", "json", verbose=True, stream=stream)
    get_logger().debug("detail")
    logging.getLogger("other").info("dropped")
    assert [line["event"] for line in lines(stream)] == ["detail"]


def test_json_is_one_object_per_line_whatever_is_logged() -> None:
    stream = io.StringIO()
    configure_logging("info", "json", stream=stream)
    get_logger().bind(plugin="fs").info("line\nbreak", key="a\u2028b", path=object())
    (line,) = lines(stream)
    assert line["event"] == "line\nbreak"
    assert line["plugin"] == "fs"
    assert line["level"] == "info"
    assert line["logger"] == "deltaglider_proxy"
    assert line["timestamp"].endswith("Z")


def test_text_has_no_colours_outside_of_a_terminal() -> None:
    stream = io.StringIO()
    configure_logging("info", "text", stream=stream)
    get_logger().info("listening on http://127.0.0.1:1", bucket="b")
    text = stream.getvalue()
    assert "listening on http://127.0.0.1:1" in text
    assert "bucket=b" in text
    assert "\x1b" not in text


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_traceback_has_no_local_variables(log_format: Any) -> None:
    stream = io.StringIO()
    configure_logging("info", log_format, stream=stream)

    def fail(secret: str) -> None:
        raise RuntimeError("broken")

    word = "hunter2-" * 2
    try:
        fail(word)
    except RuntimeError:
        get_logger().exception("request failed")
    assert "broken" in stream.getvalue()
    assert word not in stream.getvalue()


def test_the_loggers_of_the_server_join_in() -> None:
    stream = io.StringIO()
    logging.getLogger("uvicorn").handlers[:] = [logging.StreamHandler(io.StringIO())]
    configure_logging("info", "json", stream=stream)
    logging.getLogger("uvicorn.error").info("noise")
    logging.getLogger("uvicorn.error").error("trouble", extra={"color_message": "\x1b[1m"})
    (line,) = lines(stream)
    assert line["event"] == "trouble"
    assert "color_message" not in line
