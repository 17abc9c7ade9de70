"""The service against its own OpenAPI document: whatever may be sent is answered, and never by a fault."""

from __future__ import annotations

from contextlib import suppress

import pytest

schemathesis = pytest.importorskip("schemathesis")

from hypothesis import HealthCheck, Phase, given, settings  # noqa: E402
from hypothesis.errors import Unsatisfiable  # noqa: E402
from schemathesis.checks import not_a_server_error  # noqa: E402
from schemathesis.specs.openapi.checks import (  # noqa: E402
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


def test_nothing_that_can_be_sent_is_a_fault(client, monkeypatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    address = str(client.base_url).rstrip("/")
    schema = schemathesis.openapi.from_url(f"{address}/openapi.json", wait_for_schema=10)
    # GET /metrics is text that no schema describes further.
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) == 12
    asked = 0

    for operation in operations:
        strategies = [
            operation.as_strategy(generation_mode=mode)
            for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
        ]
        for strategy in strategies:
            asked += _fuzz(strategy, address)
    assert asked > 150


def _fuzz(strategy, address: str) -> int:
    count = 0

    @settings(
        max_examples=10, deadline=None, database=None, derandomize=True, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=strategy)
    def send(case) -> None:
        nonlocal count
        count += 1
        response = case.call(base_url=address)
        case.validate_response(response, checks=CHECKS)

    with suppress(Unsatisfiable):  # an address without anything that could be wrong
        send()
    return count
