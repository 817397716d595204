"""`wattbus asyncapi`: the contract of the bus for those who build on it."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from contracts.topics import TOPICS
from runtime.errors import UsageError
from runtime.flags import OneLineParser
from wattbus.asyncapi.document import alone, document, message_schemas
from wattbus.asyncapi.page import page


def main(argv: Sequence[str] | None = None) -> int:
    """Print or write it; returns the exit code."""
    parser = OneLineParser(
        prog="wattbus asyncapi",
        description="The topics and messages of the bus as an AsyncAPI 3 document, with JSON Schemas.",
        epilog="example: wattbus asyncapi --out contract",
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--out", type=Path, metavar="DIR", help="write asyncapi.json there, and a JSON Schema a message"
    )
    how.add_argument("--markdown", action="store_true", help="as a page of documentation")
    given = parser.parse_args(argv)
    if given.markdown:
        sys.stdout.write(page())
    elif given.out is None:
        sys.stdout.write(_json(document()))
    else:
        try:
            write(given.out)
        except OSError as error:
            sys.stderr.write(f"wattbus: --out {given.out}: can't be written: {error.strerror}\n")
            return UsageError.exit_code
    return 0


def write(folder: Path) -> None:
    """The document, and a JSON Schema for each message.

    Raises:
        OSError: the folder can't be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "asyncapi.json").write_text(_json(document()), encoding="utf-8")
    schemas = message_schemas()
    for name in (topic.message.__name__ for topic in TOPICS):
        (folder / f"{name}.json").write_text(_json(alone(name, schemas)), encoding="utf-8")


def _json(value: object) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.exit(main())
