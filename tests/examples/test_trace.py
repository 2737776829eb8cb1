"""The worked trace of the wire document is what a client and a cluster say to each other today."""

from __future__ import annotations

import json
from pathlib import Path

from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from tests.examples.test_examples import endpoint
from tests.processes.cluster import Cluster
from vasbus.reference_pages import WIRE_PAGE, block
from vasbus.reference_schema import wire_schema
from vasbus.reference_trace import TRACE_BLOCK, record, trace

DOCS = Path(__file__).parents[2] / "docs"


def test_the_trace_of_the_document_is_not_stale(cluster: Cluster) -> None:
    now = trace(record(endpoint(cluster, "lp1")))
    assert block((DOCS / WIRE_PAGE).read_text(), TRACE_BLOCK) == now + "\n", "stale: run `make docs`"


def test_the_trace_of_the_document_is_valid_by_the_schemas() -> None:
    validated = 0
    for line in block((DOCS / WIRE_PAGE).read_text(), TRACE_BLOCK).splitlines():
        words = line.split(maxsplit=2)
        if len(words) == 3 and words[2].startswith("{"):
            schema = wire_schema(words[0], "up" if words[1] == ">" else "down")
            Draft202012Validator(schema).validate(json.loads(words[2]))
            validated += 1
    assert validated >= 15
