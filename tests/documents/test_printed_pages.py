"""Pages that are printed from the code are up to date, and the command prints the same."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from protocol.link import BULK_FRAMES, LINKS
from protocol.refusals import RefusalCode
from vasbus.command import app
from vasbus.reference_messages import BULK_FRAME
from vasbus.reference_pages import ERRORS_BLOCK, WIRE_PAGE, block, fill, pages, write
from vasbus.reference_schema import DIRECTIONS, messages_of, wire_name, wire_schema

DOCS = Path(__file__).parents[2] / "docs"
PROTOCOL_LINES_MOST = 174
"""Three screens of 58 lines."""


def run(*words: str) -> str:
    result = CliRunner().invoke(app, ["schema", *words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_no_printed_page_is_stale() -> None:
    printed = pages((DOCS / WIRE_PAGE).read_text())
    stale = [path for path, text in printed.items() if not (DOCS / path).is_file() or (DOCS / path).read_text() != text]
    assert not stale, "run `make docs`"


def test_writing_the_pages_replaces_stale_ones_and_removes_schemas_of_no_link(tmp_path: Path) -> None:
    (tmp_path / "schema").mkdir()
    (tmp_path / "schema" / "gone.up.json").write_text("{}")
    (tmp_path / WIRE_PAGE).write_text(fill((DOCS / WIRE_PAGE).read_text(), ERRORS_BLOCK, "stale"))
    write(tmp_path)
    for path in (WIRE_PAGE, "messages.md", "codes.md", "schema/paste.up.json"):
        assert (tmp_path / path).read_text() == (DOCS / path).read_text()
    assert not (tmp_path / "schema" / "gone.up.json").exists()


def test_a_page_without_its_markers_is_not_filled() -> None:
    with pytest.raises(ValueError, match="'errors'"):
        fill("# no markers\n", ERRORS_BLOCK, "text")


def test_the_reference_has_every_message_with_its_fields() -> None:
    page = (DOCS / "messages.md").read_text()
    for link in LINKS:
        for direction in DIRECTIONS:
            section = page.split(f"## {link}, {direction}: ")[1].split("\n## ")[0]
            for message in messages_of(link, direction):
                name = wire_name(message)
                assert f"### {link} {direction}: `{name}`\n" in section or f"(#shared-{name})" in section
                for field in set(message.model_fields) - {"type"}:
                    assert f"| `{field}` |" in page


def test_every_anchor_of_the_reference_leads_somewhere() -> None:
    titles = {name: (DOCS / name).read_text() for name in ("messages.md", "codes.md", "protocol.md")}
    anchors = {
        name: {_anchor(title) for title in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}
        for name, text in titles.items()
    }
    for name in ("messages.md", "protocol.md"):
        for page, anchor in re.findall(r"\]\(([\w./]*)#([^)]+)\)", titles[name]):
            assert anchor in anchors[page or name], f"{name}: {page}#{anchor}"


def _anchor(title: str) -> str:
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def test_every_frame_of_bytes_is_described() -> None:
    assert BULK_FRAME.keys() == BULK_FRAMES.keys()


def test_the_command_prints_one_schema_or_all_by_link_and_direction() -> None:
    assert json.loads(run("--link", "paste", "--direction", "up")) == wire_schema("paste", "up")
    assert json.loads(run("--link", "device")) == {
        "device": {"up": wire_schema("device", "up"), "down": wire_schema("device", "down")}
    }
    assert {link: list(ways) for link, ways in json.loads(run()).items()} == {link: ["up", "down"] for link in LINKS}


def test_the_command_prints_the_reference_or_a_part_of_it() -> None:
    assert run("--markdown") == (DOCS / "messages.md").read_text()
    part = run("--link", "paste", "--direction", "down", "--markdown")
    assert "### paste down: `paste_completed`" in part
    assert "paste up" not in part


def test_the_command_names_the_links_to_who_asks_for_another() -> None:
    result = CliRunner().invoke(app, ["schema", "--link", "device-up"])
    assert result.exit_code == 2
    assert "telemetry" in result.output


def test_the_wire_document_keeps_to_its_measure_and_has_every_refusal() -> None:
    page = (DOCS / WIRE_PAGE).read_text()
    assert len(page.splitlines()) <= PROTOCOL_LINES_MOST
    table = block(page, ERRORS_BLOCK)
    for code in RefusalCode:
        assert f"| `{code.value}` | {'yes' if code.definite else 'no'} |" in table
