"""Which small bugs there are in a module, by the operators of cosmic-ray."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cosmic_ray.plugins
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code

# One replacement of a kind: others of the same place are noticed by the same tests.
OPERATORS = [
    *(f"ReplaceBinaryOperator_{pair}" for pair in ("Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "FloorDiv_Mul")),
    *(f"ReplaceBinaryOperator_{pair}" for pair in ("Mod_FloorDiv", "Pow_Mul", "BitAnd_BitOr", "BitOr_BitAnd")),
    *(f"ReplaceComparisonOperator_{pair}" for pair in ("Eq_NotEq", "NotEq_Eq", "Lt_LtE", "LtE_Lt", "Gt_GtE")),
    *(f"ReplaceComparisonOperator_{pair}" for pair in ("GtE_Gt", "Is_IsNot", "IsNot_Is")),
    *(f"ReplaceUnaryOperator_Delete_{name}" for name in ("USub", "Invert", "Not")),
    *("AddNot", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "ReplaceAndWithOr", "ReplaceOrWithAnd"),
    *("ReplaceBreakWithContinue", "ReplaceContinueWithBreak", "ExceptionReplacer", "NumberReplacer"),
    *("RemoveDecorator", "ZeroIterationForLoop"),
]
# A constant of a module made of these is a tuned number, as a time or a size; that another one does as well is no bug.
_ARITHMETIC = (ast.Constant, ast.Tuple, ast.BinOp, ast.UnaryOp, ast.operator, ast.unaryop, ast.expr_context)


@dataclass(frozen=True)
class Mutant:
    """A module with one small bug. path: below the repository. before, after: the lines that differ, stripped."""

    path: str
    line: int
    before: str
    after: str
    code: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.before!r} -> {self.after!r}"


def places(root: Path, path: str) -> Iterator[tuple[str, str, int]]:
    """Where a module can be mutated: its path, an operator's name, and which of that operator's places it is."""
    nodes = list(ast_nodes(get_ast((root / path).read_text())))
    for name in OPERATORS:
        operator = cosmic_ray.plugins.get_operator(f"core/{name}")()
        for occurrence in range(sum(len(list(operator.mutation_positions(node))) for node in nodes)):
            yield path, name, occurrence


def mutant_at(root: Path, path: str, name: str, occurrence: int) -> Mutant | None:
    """The mutant of one of the `places`; None when only annotations or tuned numbers differ, or it is no Python."""
    code = (root / path).read_text()
    try:
        mutated = mutate_code(code, cosmic_ray.plugins.get_operator(f"core/{name}")(), occurrence)
    except AttributeError:  # its ExceptionReplacer knows no dotted names
        return None
    if mutated is None or _meaning(mutated) in (_meaning(code), None):
        return None
    return Mutant(path, *_difference(code, mutated), mutated)


def _difference(code: str, mutated: str) -> tuple[int, str, str]:
    """The first line that differs, counted from 1, and what stands there in both."""
    lines, others = code.splitlines(), mutated.splitlines()
    for tag, start, end, other_start, other_end in difflib.SequenceMatcher(
        None, lines, others, autojunk=False
    ).get_opcodes():
        if tag != "equal":
            before, after = lines[start:end], others[other_start:other_end]
            return start + 1, " ".join(map(str.strip, before)), " ".join(map(str.strip, after))
    raise ValueError("nothing differs")


def _meaning(code: str) -> str | None:
    """What a module does, without annotations and tuned numbers. None: it is no Python."""
    try:
        tree = ast.parse(code)
    except SyntaxError:
        return None
    for node in tree.body:
        if isinstance(node, ast.Assign) and all(isinstance(part, _ARITHMETIC) for part in ast.walk(node.value)):
            node.value = ast.Constant(0)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns = None
        elif isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(None)
        elif isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    return ast.dump(tree)
