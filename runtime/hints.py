"""What a setting's annotation says of it beside its type."""

import typing
from typing import Annotated, Any

from msgspec import Meta


def describe(hint: Any) -> tuple[Any, str]:  # noqa: ANN401 - a type annotation
    """The type alone, and its description."""
    if typing.get_origin(hint) is Annotated:
        bare, *extras = typing.get_args(hint)
        text = next((e.description for e in extras if isinstance(e, Meta) and e.description), "")
        return bare, text
    return hint, ""


def alias_of(hint: Any) -> str | None:  # noqa: ANN401 - a type annotation
    """A setting's variable by another system's name: `Meta(extra={"env": "MPC_HORIZON_HOURS"})`."""
    return extra_of(hint, "env")


def extra_of(hint: Any, name: str) -> str | None:  # noqa: ANN401 - a type annotation
    """What stands under a name in its `Meta(extra=...)`; None: nothing."""
    extras = typing.get_args(hint)[1:] if typing.get_origin(hint) is Annotated else ()
    named = (e.extra.get(name) for e in extras if isinstance(e, Meta) and e.extra)
    return next((str(text) for text in named if text), None)
