"""Why a request was not answered: one form for all, and what an OpenAPI tells of it."""

import msgspec
from litestar.openapi import ResponseSpec


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why a request was not answered."""

    status_code: int
    detail: str


def refusals(**reasons: str) -> dict[int, ResponseSpec]:
    """The refusals of an endpoint for its OpenAPI: `http_404="no such house"`."""
    return {
        int(name.removeprefix("http_")): ResponseSpec(Refusal, description=text, generate_examples=False)
        for name, text in reasons.items()
    }
