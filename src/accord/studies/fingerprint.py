"""A fingerprint of how a study measures: of ``measure`` and all that it uses among the studies, of nothing else.

Words, pictures and rules of judgement may be mended after the run; what made the rows may not, without being noticed.
"""

from __future__ import annotations

import ast
import hashlib
import symtable
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

STUDIES = "accord.studies"


def fingerprint(module: str, name: str = "measure") -> str:
    """SHA-256 of the code behind a function: its own, and what it refers to in its file and in ``accord.studies``.

    Docstrings, comments and layout do not count, nor does what lies outside of ``accord.studies``.

    Args:
        module: where the function is defined.
        name: of the function.

    Example:
        >>> a, b = (fingerprint("accord.studies.two_digits", name) for name in ("train", "data"))
        >>> len(a), a == b
        (64, False)
    """
    found: dict[tuple[str, str], str] = {}
    open_: list[tuple[str, str]] = [(module, name)]
    while open_:
        place = open_.pop()
        if place in found:
            continue
        defined, imported = _names(place[0])
        if place[1] in imported:  # handed on from another file
            open_.append(imported[place[1]])
            continue
        if place[1] not in defined:
            continue
        node = defined[place[1]]
        found[place] = _code(node)
        used = _used(node)
        here, files = used & defined.keys(), used & imported.keys()
        for part in ast.walk(node):
            if isinstance(part, ast.Name) and part.id in here:
                open_.append((place[0], part.id))
            elif isinstance(part, ast.Name) and part.id in files:
                open_.append(imported[part.id])
            elif isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name) and part.value.id in files:
                open_.append((".".join(imported[part.value.id]), part.attr))  # two_digits.train
    text = "\n".join(f"{m}.{n} {code}" for (m, n), code in sorted(found.items()))
    return hashlib.sha256(text.encode()).hexdigest()


def _names(module: str) -> tuple[dict[str, ast.stmt], dict[str, tuple[str, str]]]:
    """What a file defines, and what it takes from the studies: name -> (module, name there)."""
    try:
        spec = find_spec(module)
    except ModuleNotFoundError:  # an attribute of an object, not of a module
        return {}, {}
    if spec is None or spec.origin is None:
        return {}, {}
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    defined: dict[str, ast.stmt] = {}
    imported: dict[str, tuple[str, str]] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            defined[node.name] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            defined |= {part.id: node for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(STUDIES):
            imported |= {alias.asname or alias.name: (node.module or "", alias.name) for alias in node.names}
    return defined, imported


def _used(node: ast.stmt) -> set[str]:
    """The names that a definition takes from its file: not the local ones that happen to be called the same."""

    def referred(table: symtable.SymbolTable) -> Iterator[str]:
        top = table.get_type() == "module"
        yield from (one.get_name() for one in table.get_symbols() if one.is_referenced() and (top or one.is_global()))
        for inner in table.get_children():
            yield from referred(inner)

    return set(referred(symtable.symtable(ast.unparse(node), "study", "exec")))


def _code(node: ast.AST) -> str:
    """A definition without its docstrings."""
    copy = ast.parse(ast.unparse(node))
    for part in ast.walk(copy):
        if isinstance(part, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(part, clean=False) is not None:
            part.body = part.body[1:] or [ast.Pass()]
    return ast.dump(copy)
