"""`wattbus topics`: what travels where, as the code has it."""

import sys
from collections.abc import Sequence

from contracts.topics import TOPICS
from runtime.flags import OneLineParser


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; returns the exit code."""
    parser = OneLineParser(
        prog="wattbus topics",
        description="Every topic with its message and its delivery class.",
        epilog="example: wattbus topics --markdown",
    )
    parser.add_argument("--markdown", action="store_true", help="as a table for a page of documentation")
    as_markdown = parser.parse_args(argv).markdown
    rows = [(topic.pattern, topic.message.__name__, topic.delivery.name) for topic in TOPICS]
    if as_markdown:
        lines = [
            "| topic | message | class |",
            "|---|---|---|",
            *(f"| `{a}` | `{b}` | {c} |" for a, b, c in rows),
        ]
    else:
        wide = max(len(pattern) for pattern, _, _ in rows)
        lines = [f"{a:{wide}}  {b:16} {c}" for a, b, c in rows]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
