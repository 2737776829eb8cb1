"""The sources that rows may name: the keys of docs/domain.md's table, and the files, messages and links it cites."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from tests.fidelity.page import PAGE

DOMAIN = PAGE.parent / "domain.md"
WITH_PAGES = re.compile(r"(?P<key>[A-Z]+) p\.\d+(-\d+)?")
"""A key and pages of that document: `UM p.28-30`."""
WITH_FILE = re.compile(r"(?P<key>[A-Z]+:[a-z]+) (?P<file>\S+)")
"""A key and one file of what it stands for: `T:self gzip_vas.c`."""


@dataclass(frozen=True)
class Sources:
    """What a text explains as sources. Its first table lists keys; `ML:<hash>` and `PU:<file>` stand for many."""

    text: str

    @cached_property
    def keys(self) -> frozenset[str]:
        """The keys of the table as they are written, whether they stand for one source or for many."""
        table = self.text.partition("\n## Source keys\n\n")[2].partition("\n\n")[0]
        _title, _rule, *rows = re.findall(r"^\| (.+?) \|", table, re.MULTILINE)
        return frozenset(key for row in rows for key in re.split(r", | / ", row))

    def cites(self, words: str) -> bool:
        """Whether the text has these words, not as a part of longer ones."""
        return re.search(rf"(?<![\w.-]){re.escape(words)}(?![\w-])", self.text) is not None

    def explain(self, source: str) -> bool:
        """Whether a row may name this source."""
        if source in self.keys or "<" in source:
            return "<" not in source
        if source.startswith("https://"):
            return self.cites(source)
        if match := WITH_PAGES.fullmatch(source) or WITH_FILE.fullmatch(source):
            named = match.groupdict()
            return named["key"] in self.keys and self.cites(named.get("file", named["key"]))
        prefix, _, name = source.partition(":")
        if f"{prefix}:<file>" in self.keys:
            file = name.rpartition("/")[2]
            return bool(file) and self.cites(file)
        return f"{prefix}:<hash>" in self.keys and re.fullmatch(r"[0-9a-f]{10}", name) is not None and self.cites(name)
