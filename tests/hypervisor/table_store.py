"""A ledger store in memory: what has been committed, table by table, as the real store would give it back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from operator import attrgetter

from hypervisor.rows import ROW_TYPES, AnswerRow, Drop, DropAnswers, Put, Row

Key = tuple[object, ...]


class TableStore:
    """Rows by table and key. `commits` counts the transactions."""

    def __init__(self) -> None:
        self.tables: dict[type[Row], dict[Key, Row]] = {table: {} for table in ROW_TYPES}
        self.commits = 0

    def commit(self, writes: Sequence[object]) -> None:
        self.commits += 1
        for write in writes:
            if isinstance(write, Put):
                self.tables[type(write.row)][key_of(write.row)] = write.row
            elif isinstance(write, Drop):
                self.tables[write.table].pop(write.key, None)
            elif isinstance(write, DropAnswers):
                self._drop_answers(write)
            else:
                raise TypeError(f"{write!r} is no write")

    def rows(self) -> list[Row]:
        """Every row, in the order in which the real store loads them."""
        return [table[key] for table in self.tables.values() for key in sorted(table, key=str)]

    def _drop_answers(self, write: DropAnswers) -> None:
        answers = self.tables[AnswerRow]
        for key, row in list(answers.items()):
            assert isinstance(row, AnswerRow)
            if (row.link, row.name) == (write.link, write.name) and row.number < write.below:
                del answers[key]


KEY_OF = {table: attrgetter(*(field.name for field in fields(table)[: table.KEY])) for table in ROW_TYPES}


def key_of(row: Row) -> Key:
    key = KEY_OF[type(row)](row)
    return key if isinstance(key, tuple) else (key,)
