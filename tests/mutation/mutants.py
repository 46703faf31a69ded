"""Mutants of the core: its files with one small thing changed each, which some test of the core should notice.

A mutant is a place in a file's syntax tree and what stands there instead. Left alone is what decides nothing:
annotations, docstrings, `assert` (no behaviour rests on one), and sentences, which are for people.
"""

import ast
import copy
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
CORE: Final = ROOT / "core" / "cloud_mirror"
SENTENCE_WORDS: Final = 4
LABELS: Final = ("Phase", "Row", "Stop", "Slot", "Asking")
"""Enumerations whose members' texts are only shown; those in the diagrams are compared by a test, each word of them."""

COMPARISONS: Final[dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
OPERATORS: Final[dict[type[ast.operator], type[ast.operator]]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Add,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}
_PAIRS: Final = (
    ("min", "max"),
    ("any", "all"),
    ("partition", "rpartition"),
    ("startswith", "endswith"),
    ("lower", "upper"),
    ("split", "rsplit"),
    ("bisect_left", "bisect_right"),
)
CALLED: Final = dict(_PAIRS) | {other: one for one, other in _PAIRS} | {"match": "search", "fullmatch": "match"}
PIECES: Final = re.compile(r"\\Z|\\[a-z.]|[a-zA-Z0-9]-[a-zA-Z0-9]|[*+?]|\{[0-9,]+\}|[\^_]")
"""What may be left out of a regular expression."""


@dataclass(frozen=True)
class Mutant:
    """In a module (its name's last part), in `scope` (a qualified name, or ""): `says` is what was changed to what."""

    module: str
    scope: str
    says: str
    holder: Any  # the node or the list in whose `slot` the new node is put
    slot: Any
    new: Any
    in_body: bool  # in a function's body, which can be exchanged without importing anything anew

    @property
    def name(self) -> str:
        """What it is listed under: the same for as long as the code around it is."""
        return f"{self.module}.{self.scope or '-'}: {self.says}"

    def code(self) -> ast.Module:
        """The module, mutated for good: to be used in a process of its own."""
        tree = parsed(self.module)
        if self.new is None:
            del self.holder[self.slot]
        elif isinstance(self.holder, list):
            self.holder[self.slot] = self.new
        else:
            setattr(self.holder, self.slot, self.new)
        return ast.fix_missing_locations(tree)


_trees: dict[str, ast.Module] = {}


def path_of(module: str) -> Path:
    """The module's file."""
    return CORE / f"{module}.py"


def parsed(module: str) -> ast.Module:
    """The module's one syntax tree, which its mutants point into."""
    if module not in _trees:
        _trees[module] = ast.parse(path_of(module).read_text())
    return _trees[module]


def enums() -> dict[str, dict[str, tuple[str, ...]]]:
    """For each module: the enumerations that it defines, and their members."""
    return {
        path.stem: {
            node.name: tuple(
                target.id
                for line in node.body
                if isinstance(line, ast.Assign)
                for target in line.targets
                if isinstance(target, ast.Name)
            )
            for node in parsed(path.stem).body
            if isinstance(node, ast.ClassDef) and [ast.unparse(base) for base in node.bases] == ["enum.Enum"]
        }
        for path in CORE.glob("*.py")
    }


def mutants_of(module: str) -> tuple[Mutant, ...]:
    """Every mutant of one module, in the order of its text."""
    tree = parsed(module)
    known, names = enums(), {}
    names.update(known[module])
    for line in tree.body:
        if isinstance(line, ast.ImportFrom) and line.module is not None:
            there = known.get(line.module.rpartition(".")[2], {})
            names.update({alias.name: there[alias.name] for alias in line.names if alias.name in there})
    found, counted = [], Counter[str]()
    for mutant in Walk(module, names).walk(tree, "", in_body=False):
        counted[mutant.name] += 1
        times = counted[mutant.name]
        found.append(mutant if times == 1 else replace(mutant, says=f"{mutant.says} ({times})"))
    return tuple(found)


class Walk:
    """A walk over one module's tree."""

    def __init__(self, module: str, enums: dict[str, tuple[str, ...]]) -> None:
        self.module = module
        self.enums = enums

    def walk(self, node: ast.AST, scope: str, *, in_body: bool) -> Iterator[Mutant]:
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns", "decorator_list", "subject"):
                continue
            inside = in_body or (isinstance(node, ast.FunctionDef) and name == "body")
            slots: Any = list(enumerate(value)) if isinstance(value, list) else [(name, value)]
            for slot, child in slots:
                if not isinstance(child, ast.AST) or _is_left_alone(child) or (scope in LABELS and not in_body):
                    continue
                holder = value if isinstance(value, list) else node
                others: list[Any] = list(self.instead_of(child, node, inside=inside))
                if isinstance(value, list) and _may_go(node, name, inside=inside):
                    others.append(None)
                for new in others:
                    says = f"{_text(child)} -> {_text(new) if new else 'nothing'}"
                    yield Mutant(self.module, scope, says, holder, slot, new, inside)
                within = scope
                if isinstance(child, ast.FunctionDef | ast.ClassDef) and not inside:
                    within = f"{scope}.{child.name}".lstrip(".")
                yield from self.walk(child, within, in_body=inside)

    def instead_of(self, node: ast.AST, parent: ast.AST, *, inside: bool) -> Iterator[ast.AST]:
        """What may stand in this node's place."""
        match node:
            case ast.Compare(left, ops, comparators):
                for at, op in enumerate(ops):
                    for other in COMPARISONS[type(op)]:
                        yield ast.Compare(left, [*ops[:at], other(), *ops[at + 1 :]], comparators)
            case ast.BoolOp(op, values):
                yield ast.BoolOp(ast.Or() if isinstance(op, ast.And) else ast.And(), values)
                for rest in _one_less(values):
                    yield rest[0] if len(rest) == 1 else ast.BoolOp(op, rest)
            case ast.UnaryOp(ast.Not() | ast.USub(), operand):
                yield operand
            case ast.BinOp(left, op, right) if type(op) in OPERATORS:
                yield ast.BinOp(left, OPERATORS[type(op)](), right)
            case ast.AugAssign(target, op, value):
                yield ast.AugAssign(target, OPERATORS[type(op)](), value)
            case ast.IfExp(_, body, orelse):
                yield body
                yield orelse
            case ast.If(ast.Name() | ast.Attribute() | ast.Call() as test, body, orelse):
                yield ast.If(ast.UnaryOp(ast.Not(), test), body, orelse)
            case ast.Constant(value):
                yield from (ast.Constant(other) for other in _other_values(value, parent))
            case ast.Attribute(ast.Name(name) as of, member) if name in self.enums:
                members = self.enums[name]
                yield ast.Attribute(of, members[(members.index(member) + 1) % len(members)], ast.Load())
            case ast.Slice(lower, upper, step) if lower or upper:
                yield ast.Slice(None, None, step)
            case ast.MatchSingleton(bool() as value):
                yield ast.MatchSingleton(not value)
        yield from _left_out(node, inside=inside)


def _left_out(node: ast.AST, *, inside: bool) -> Iterator[ast.AST]:
    """The same with a part of it left out."""
    match node:
        case ast.Call(function, arguments, keywords):
            if (name := _called(function)) in CALLED:
                other: ast.expr = ast.Name(CALLED[name], ast.Load())
                if isinstance(function, ast.Attribute):
                    other = ast.Attribute(function.value, CALLED[name], ast.Load())
                yield ast.Call(other, arguments, keywords)
            for at, argument in enumerate(arguments if inside and name not in ("isinstance", "len") else ()):
                if isinstance(argument, ast.Attribute | ast.Call | ast.BinOp | ast.Subscript):
                    yield ast.Call(function, [*arguments[:at], ast.Constant(None), *arguments[at + 1 :]], keywords)
        case ast.Dict(keys, values):
            yield from (ast.Dict(*rest) for rest in zip(_one_less(keys), _one_less(values), strict=True))
        case ast.match_case(pattern, ast.expr(), body):
            yield ast.match_case(pattern, None, body)
        case ast.MatchOr(patterns):
            yield from (rest[0] if len(rest) == 1 else ast.MatchOr(rest) for rest in _one_less(patterns))
        case ast.MatchClass(of, patterns, names, values):
            for rest in zip(_one_less(names), _one_less(values), strict=True):
                yield ast.MatchClass(of, patterns, *rest)
        case ast.Assign() | ast.AugAssign() | ast.AnnAssign() | ast.Expr() | ast.Delete() | ast.If() if inside:
            yield ast.Pass()
        case ast.Raise() | ast.Continue() | ast.Break() if inside:
            yield ast.Pass()


def _may_go(node: ast.AST, name: str, *, inside: bool) -> bool:
    """Whether any one of what this node has under that name may be left out."""
    match node:
        case ast.Call() | ast.comprehension():
            return name in ("keywords", "ifs")
        case ast.Match(cases=cases):
            return len(cases) > 1
        case ast.Tuple(parts, ast.Load()):  # a pair in a body is a result of two parts, which are unpacked
            return not inside or len(parts) != 2 or any(isinstance(part, ast.Starred) for part in parts)
    return isinstance(node, ast.Set | ast.List)


def _other_values(value: object, parent: ast.AST) -> Iterator[Any]:
    match value:
        case bool():
            yield not value
        case int():
            yield value + 1
            yield value - 1
        case float():
            yield value + 1
        case str():
            if _called(getattr(parent, "func", None)) == "compile":
                for piece in PIECES.finditer(value):
                    yield value[: piece.start()] + value[piece.end() :]
            yield value + "X"


def _one_less(parts: list[Any]) -> list[list[Any]]:
    return [parts[:at] + parts[at + 1 :] for at in range(len(parts))]


def _called(function: object) -> str:
    """The last part of a called function's name."""
    match function:
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name
    return ""


def _is_left_alone(node: ast.AST) -> bool:
    match node:
        case ast.Expr(ast.Constant()) | ast.Assert() | ast.Import() | ast.ImportFrom():
            return True
        case ast.AnnAssign(annotation=ast.Name("TypeAlias")) | ast.Assign(targets=[ast.Name("__all__")]):
            return True
        case ast.Constant(str() as text):
            return len(text.split()) >= SENTENCE_WORDS
        case ast.JoinedStr(parts):
            text = "".join(str(part.value) for part in parts if isinstance(part, ast.Constant))
            return len(text.split()) >= SENTENCE_WORDS
    return False


def _text(node: ast.AST) -> str:
    """A node in one line, or its beginning."""
    match node:
        case ast.If(test):
            return f"if {_text(test)}"
        case ast.match_case(pattern, guard):
            return f"case {_text(pattern)}" + (f" if {_text(guard)}" if guard else "")
    return " ".join(ast.unparse(ast.fix_missing_locations(copy.deepcopy(node))).split())
