"""Holds an HTTP API to its own OpenAPI, with requests that schemathesis makes up."""

from typing import Any

import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.generation import GenerationMode


def openapi_of(url: str) -> Any:
    return schemathesis.openapi.from_url(f"{url}/docs/openapi.json")


def check_operation(
    operation: Any, mode: GenerationMode, max_examples: int = 20, headers: dict[str, str] | None = None
) -> None:
    """Ask one endpoint, rightly or wrongly; every answer must be one that the OpenAPI tells."""
    if mode is GenerationMode.NEGATIVE and not (operation.query or operation.body):
        return  # nothing can be sent wrongly

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=max_examples, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    def check(case: Any) -> None:
        case.call_and_validate(timeout=20, headers=headers)

    check()


def check_api(url: str, headers: dict[str, str] | None = None) -> list[str]:
    """Ask every endpoint; returns their names."""
    api = openapi_of(url)
    operations = [found.ok() for found in api.get_all_operations()]
    for operation in operations:
        for mode in GenerationMode:
            check_operation(operation, mode, max_examples=15, headers=headers)
    return [operation.label for operation in operations]
