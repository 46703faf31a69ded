"""Situations as text: what is equal reads the same, and names (tokens, ids) can be told from everything else.

Two situations that differ only in what things are called behave alike. So a situation is kept as its *shape*, in which
names are numbered in the order of their appearance, and the names themselves.
"""

from __future__ import annotations

import enum
import functools
import re
from collections.abc import Hashable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Final, NamedTuple, cast

from cloud_mirror import copy_table, redirect_table

NAME: Final = re.compile(
    r"zq[0-9a-z]+z(?:-[0-9]+)?|\b(?:put|upload)-[0-9]+\b|\bm[0-9]+\b|\bbody[0-9]+\b|\b[0-9a-f]{32}\b"
)
"""Names that are made in a small world, and those that the models make up; an ETag, too, is but a name of bytes."""

_SAME_FOR_ALL: Final = (copy_table.Rules, redirect_table.Rules)


class Shape(NamedTuple):
    """A situation's text with its names numbered, and the names in that order."""

    text: str
    names: tuple[str, ...]


def shape(text: str) -> Shape:
    """The shape of a spelled situation."""
    names: dict[str, int] = {}

    def number(found: re.Match[str]) -> str:
        return f"#{names.setdefault(found[0], len(names))}"

    numbered = NAME.sub(number, text)
    return Shape(numbered, tuple(names))


class Speller:
    """Spells values, and keeps what it has spelled for as long as it lives: one for each world."""

    def __init__(self) -> None:
        self._fields_of = functools.cache(self._spell_fields)

    def spell(self, value: Any) -> str:
        """A value as text; sets and mappings in a fixed order, what has no value of its own by its type alone."""
        match value:
            case bool() | int() | float() | str() | None:
                return repr(value)
            case bytes():
                return repr(value)
            case enum.Enum():
                return f"{type(value).__name__}.{value.name}"
            case tuple() | list():
                return f"({','.join(map(self.spell, value))})"
            case frozenset() | set():
                return f"{{{','.join(sorted(map(self.spell, value)))}}}"
            case Mapping():
                pairs = sorted(f"{self.spell(name)}:{self.spell(each)}" for name, each in value.items())
                return f"{{{','.join(pairs)}}}"
        if is_dataclass(value) and not isinstance(value, type) and not isinstance(value, _SAME_FOR_ALL):
            return self._fields_of(cast(Hashable, value))
        return type(value).__name__

    def _spell_fields(self, value: Any) -> str:
        texts = (self._spell_field(each.name, getattr(value, each.name)) for each in fields(value))
        return f"{type(value).__name__}({','.join(texts)})"

    def _spell_field(self, name: str, value: Any) -> str:
        """One field. A number called `body` is a name; a checksum says nothing that the bytes beside it do not say."""
        match name, value:
            case "body", int():
                return f"body{value}"
            case "crc", str():
                return str(value != "")
        return self.spell(value)
