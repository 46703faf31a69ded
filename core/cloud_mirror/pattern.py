r"""Allowed patterns: which source URLs an operator lets the mirror copy from.

A pattern is a regular expression in two halves, cut at the first `/` after the host. The first half,
`^https://host`, is matched against the *whole* of a URL's scheme and authority, so that nothing of it can reach into
the path, and nothing of the path can pass for a host. The second half is matched from the start of what follows.

A pattern that some stranger's host could satisfy is refused when it is read. To decide that, the host's expression
is spelt out: every alternative becomes a string in which `*` stands for anything at all. Where there is a `*`, the
literal text behind the last one must hold two whole labels (`*.example.com`), so that what is free lies beneath a
name that somebody registered. (No program knows every suffix under which strangers register: `[^/]+\.co\.uk` passes.)

Patterns allow; one that tries to forbid (by a negative lookahead) can be got around with percent-escapes.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

MAX_ALTERNATIVES: Final = 1000

_SCHEME: Final = re.compile(r"\^(https\?|https|http):\\?/\\?/(?![*+?{])")
_TOKEN: Final = re.compile(
    r"""(?P<end>\\?/(?![*+?{]))
      | (?P<literal>[a-z0-9_:-] | \\[.:_-] | \[\.\])
      | (?P<free>\[\^?\]?(?:\\.|[^\]\\])*\] | \\[dw])
      | (?P<open>\((?:\?:)?(?!\?))
      | (?P<bar>\|)
      | (?P<close>\))
      | (?P<times>[*+?][+?]? | \{[0-9,]+\}[+?]?)""",
    re.VERBOSE,
)
_LITERAL_HOST: Final = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\Z")
_FREE_HOST: Final = re.compile(r".*\*[a-z0-9_-]*(\.[a-z0-9_-]+){2,}\Z")
_ESCAPE_OR_CLASS: Final = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)

_DOT_SEGMENT: Final = re.compile(r"(/|%2f|%5c)\.\.?(?=/|%2f|%5c|;|\Z)", re.IGNORECASE)
_ENCODED_DOT: Final = re.compile(r"%2e", re.IGNORECASE)
_SEPARATORS: Final = (re.compile("/"), re.compile(r"/|%2f|%5c", re.IGNORECASE))


class PatternError(ValueError):
    """A pattern that may not stand; the message names it and says how to write it instead."""

    def __init__(self, pattern: str, problem: str) -> None:
        super().__init__(f"the pattern {pattern!r} {problem}")
        self.pattern = pattern


@dataclass(frozen=True, slots=True)
class Pattern:
    """A compiled pattern: see this module's own text."""

    text: str
    origin: re.Pattern[str]
    rest: re.Pattern[str]

    def allows(self, origins: Sequence[str], target: str) -> bool:
        """Whether one of the `origins` (spellings of one `scheme://authority`) and the target (from its `/`) match."""
        for origin in origins:
            if self.origin.fullmatch(origin) and self.rest.match(origin + target, len(origin) + 1):
                return True
        return False


def compile_pattern(text: str) -> Pattern:
    r"""The pattern, compiled; raises `PatternError` where a stranger's host could satisfy it, or none at all."""
    if not text.startswith("^"):
        raise PatternError(text, r"must start with ^: write '^https://host\.example\.com/'")
    _compile(text, text)
    scheme = _SCHEME.match(text)
    if not scheme:
        raise PatternError(text, "must name its scheme: begin it with ^https:// or ^http:// (or ^https?://)")
    hosts, start, end = _read_host(text, scheme.end())
    if not any(_LITERAL_HOST.match(host) or "*" in host for host in hosts):
        raise PatternError(text, "matches no host: write the host between :// and the next /")
    for host in hosts:
        if "*" in host and not _FREE_HOST.match(host):
            raise PatternError(
                text,
                "could be satisfied by a stranger's host: behind what is free, write at least two labels of the host "
                r"literally, as in '^https://[^/]+\.example\.com/', or list the hosts, as in '^https://(a|b)\.example/'",
            )
    if _has_bare_bar(text[end:]):
        raise PatternError(text, "has a | outside of any group: write one pattern for each alternative")
    return Pattern(text, _compile(text, text[1:start]), _compile(text, text[end:]))


def readings(target: str) -> frozenset[str]:
    r"""The target, and where its path has dot segments, all that servers make of it when they resolve them.

    Servers differ: some take `%2F` and `%5C` for separators, some fold `//`, some cut `;...` from a segment
    before they look at it, and WHATWG's URL takes `%2e` for a dot. A URL is allowed only if each reading is, so that
    `/public/..%2Fprivate` does not pass for something below `/public/`.
    """
    path, mark, query = target.partition("?")
    dotted = _ENCODED_DOT.sub(".", path)
    if not _DOT_SEGMENT.search(dotted):
        return frozenset({target})
    ways = itertools.product(_SEPARATORS, (False, True), (False, True))
    resolved = {
        remove_dot_segments(separator.split(dotted)[1:], fold=fold, cut_parameters=cut) for separator, fold, cut in ways
    }
    return frozenset({target} | {read + mark + query for read in resolved})


def remove_dot_segments(segments: Sequence[str], *, fold: bool = False, cut_parameters: bool = False) -> str:
    """The absolute path of these segments without `.` and `..` (RFC 3986, 5.2.4).

    `fold`: empty segments are dropped; `cut_parameters`: a segment is judged without what follows its first `;`.
    """
    kept: list[str] = []
    name = ""
    for segment in segments:
        name = segment.partition(";")[0] if cut_parameters else segment
        if name == "..":
            del kept[-1:]
        elif name != "." and (segment or not fold):
            kept.append(segment)
    if name in (".", "..") or (fold and not name):
        kept.append("")
    return "/" + "/".join(kept)


def _compile(pattern: str, part: str) -> re.Pattern[str]:
    try:
        return re.compile(part)
    except (re.error, OverflowError, RecursionError) as error:
        raise PatternError(pattern, f"is not a valid regular expression: {error}") from error


def _read_host(text: str, at: int) -> tuple[frozenset[str], int, int]:
    """The hosts (without ports) that the expression from `at` on spells, and where its `/` starts and ends."""
    tokens: list[tuple[str, str]] = []
    kind = ""
    while kind != "end":
        token = _TOKEN.match(text, at)
        if not token:
            raise PatternError(text, _cannot_read(text[at : at + 1]))
        kind, at = token.lastgroup or "", token.end()
        tokens.append((kind, token[0]))
    spelt, _ = _spell(text, tokens, 0, depth=0)
    return frozenset(host.partition(":")[0] for host in spelt), at - len(tokens[-1][1]), at


def _cannot_read(symbol: str) -> str:
    if symbol == "":
        return "must hold the whole host with a / after it: end the host with /"
    if symbol == ".":
        return r"has a bare . in its host, which stands for any character: write \. for a dot, [^/]+ for anything"
    return (
        f"has {symbol!r} in its host: write the host in lower-case letters, digits, -, \\., classes such as [^/]+ and "
        "groups such as (a|b), then /"
    )


def _spell(pattern: str, tokens: Sequence[tuple[str, str]], at: int, depth: int) -> tuple[set[str], int]:
    """What the tokens spell from `at` up to the `)` or `/` that ends them, and where that is; `*` is anything."""
    done: set[str] = set()
    current = {""}
    while True:
        kind, text = tokens[at]
        if kind in ("close", "end"):
            return done | current, at
        if kind == "bar":
            if depth == 0:
                raise PatternError(pattern, "has a | outside of any group: write one pattern for each alternative")
            done, current, at = done | current, {""}, at + 1
            continue
        if kind == "open":
            atom, at = _spell(pattern, tokens, at + 1, depth + 1)
            if tokens[at][0] == "end":
                raise PatternError(pattern, "has a / in a group: end the group before the / after the host")
        else:
            atom = {text.strip("[\\]")} if kind == "literal" else {"*"}
        at += 1
        if tokens[at][0] == "times":
            atom, at = _repeat(atom, tokens[at][1]), at + 1
        current = {before + after for before in current for after in atom}
        if len(current) + len(done) > MAX_ALTERNATIVES:
            raise PatternError(pattern, f"has more than {MAX_ALTERNATIVES} hosts: write several patterns")


def _repeat(atom: set[str], times: str) -> set[str]:
    """The atom repeated: whatever came before, its last turn is the atom itself; or no turn at all."""
    turns = atom if times[0] == "?" else {"*" + last for last in atom}
    return turns | {""} if times[0] in "?*" or times.startswith(("{0", "{,")) else turns


def _has_bare_bar(expression: str) -> bool:
    """Whether a valid expression has alternatives at its top level."""
    depth = 0
    for symbol in _ESCAPE_OR_CLASS.sub("", expression):
        if symbol == "|" and depth == 0:
            return True
        depth += (symbol == "(") - (symbol == ")")
    return False
