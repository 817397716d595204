"""Logs: structlog over stdlib logging; one rotating file a service, the same lines on stderr."""

import logging
import logging.handlers
import sys
from collections.abc import Iterable
from pathlib import Path

import structlog
from structlog.typing import EventDict, WrappedLogger

from runtime.clock import Clock
from runtime.errors import UsageError

MAX_BYTES = 5_000_000
BACKUPS = 5

FILE_NAMES = {"pvsim": "pv_simulator"}
"""Where a log file is not named after its service, because the reference says otherwise."""

BUS = "broker"

Log = structlog.stdlib.BoundLogger


def get_log(service: str) -> Log:
    """The log of one service."""
    log: Log = structlog.stdlib.get_logger(service)
    return log


def configure(
    services: Iterable[str], clock: Clock, level: str, log_dir: Path | None, *, console: bool = True
) -> None:
    """Send each service's log to `log_dir/<service>.log`, and to stderr if `console`; the bus's too.

    Args:
        clock: gives the lines their time, so that a simulated run logs simulated time.
        log_dir: None keeps no files.

    Raises:
        UsageError: the folder can't be written.
    """

    def stamp(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["timestamp"] = str(clock.now())
        return event

    before: list[structlog.typing.Processor] = [
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        stamp,
    ]
    structlog.configure(
        processors=[*before, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=before,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _line],
    )
    handlers: list[logging.Handler] = []
    if console:
        handlers.append(logging.StreamHandler(sys.stderr))
    services = list(services)
    files = {} if log_dir is None else {service: _file(log_dir, service) for service in services}
    # What the bus says stands with the one service it serves; in a process of many, in a file of its own.
    if log_dir is not None:
        files[BUS] = files[services[0]] if len(services) == 1 else _file(log_dir, BUS)
    for name in (*services, BUS):
        logger = logging.getLogger(name)
        logger.setLevel(level)
        logger.propagate = False
        for old in logger.handlers:
            old.close()
        logger.handlers = [*handlers, *([files[name]] if name in files else [])] or [logging.NullHandler()]
        for handler in logger.handlers:
            handler.setFormatter(formatter)
    root = logging.getLogger()
    root.setLevel(logging.WARNING)
    root.handlers = [*handlers]
    # Its warning that a peer is gone ("socket.send() raised exception") is no news to who serves the peer.
    logging.getLogger("asyncio").setLevel(logging.ERROR)


def _file(log_dir: Path, service: str) -> logging.Handler:
    path = log_dir / f"{FILE_NAMES.get(service, service)}.log"
    try:
        log_dir.mkdir(parents=True, exist_ok=True)
        return logging.handlers.RotatingFileHandler(
            path, maxBytes=MAX_BYTES, backupCount=BACKUPS, encoding="utf-8"
        )
    except OSError as error:
        raise UsageError(
            f"{path}: can't be written ({error.strerror}): set --log-dir to a folder of yours"
        ) from error


def _line(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    head = (
        f"{event.pop('timestamp')} {event.pop('level').upper():7} {event.pop('logger')}: {event.pop('event')}"
    )
    trace = event.pop("exc_info", None)
    pairs = " ".join(f"{key}={value}" for key, value in event.items())
    text = f"{head}  {pairs}".rstrip().replace("\n", "\\n")
    return f"{text}  {trace[1]!r}" if isinstance(trace, tuple) else text
