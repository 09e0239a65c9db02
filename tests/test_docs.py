"""The documentation runs: every block of README and docs, every doctest; every public name has its page."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import os
import pkgutil
import re
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest
import torch

import accord
from accord import problems

ROOT = Path(__file__).parents[1]
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [ROOT / "README.md", *DOCS]
PAGE_IDS = [str(page.relative_to(ROOT)) for page in PAGES]
SKIP = re.compile(r"<!-- not executed: *(.*?) *-->")
COMMAND = re.compile(r"(?:^|[;&|]\s*)(?:\$ )?(?:\S*/)?accord +(\S+)")
MODULES = sorted(
    info.name for info in pkgutil.walk_packages(accord.__path__, "accord.") if not info.name.endswith("__main__")
)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, code, first line of code, and why it is not executed (None if it is)."""

    language: str
    code: str
    line: int
    skip: str | None


def blocks_of(text: str) -> list[Block]:
    found, lines = [], text.splitlines()
    opened: int | None = None
    language, skip = "", None
    for number, line in enumerate(lines):
        if not line.lstrip().startswith("```"):
            continue
        if opened is None:
            opened, language = number, line.strip().removeprefix("```").strip()
            note = SKIP.fullmatch(lines[number - 1].strip()) if number else None
            skip = note[1] if note else None
        else:
            found.append(Block(language, "\n".join(lines[opened + 1 : number]), opened + 2, skip))
            opened = None
    assert opened is None, f"the block of line {(opened or 0) + 1} is never closed"
    return found


def exported(*package: str) -> set[str]:
    """Names that the ``__init__.py`` of a package below ``accord`` re-exports as ``X as X``."""
    file = (ROOT / "src" / "accord").joinpath(*package, "__init__.py")
    module = ast.parse(file.read_text(encoding="utf-8"))
    imported = [alias for node in module.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    return {a.asname for a in imported if a.asname is not None and a.asname == a.name}


def public_names() -> list[str]:
    """Names that ``accord`` re-exports, and ``__all__`` if there is one."""
    return sorted(exported() | set(getattr(accord, "__all__", ())))


@pytest.fixture
def _restored(monkeypatch):
    """A page may name a data folder of its own, and add a problem; other tests must not see them."""
    monkeypatch.setattr(problems, "PROBLEMS", problems.PROBLEMS)
    with mock.patch.dict(os.environ):
        yield


@pytest.mark.usefixtures("_restored")
@pytest.mark.parametrize("page", PAGES, ids=PAGE_IDS)
def test_python_blocks_run(page, tmp_path, monkeypatch):
    """The blocks of one page share their names and run in order, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    torch.manual_seed(0)
    namespace: dict[str, object] = {"__name__": "__docs__"}
    for block in blocks_of(page.read_text(encoding="utf-8")):
        if block.language != "python":
            continue
        if block.skip is not None:
            assert block.skip, f"line {block.line}: say why it is not executed"
            continue
        code = "\n" * (block.line - 1) + block.code  # so that a traceback shows the line of the page
        exec(compile(code, str(page), "exec", dont_inherit=True), namespace)


@pytest.mark.parametrize("page", PAGES, ids=PAGE_IDS)
def test_commands_exist(page):
    """Every ``accord VERB`` in a shell block is a verb of the command line."""
    shell = [b.code for b in blocks_of(page.read_text(encoding="utf-8")) if b.language in ("bash", "console", "sh")]
    found = [verb for code in shell for line in code.splitlines() for verb in COMMAND.findall(line)]
    verbs = [verb for verb in found if not verb.startswith("-")]
    if not verbs:
        return
    typer = importlib.import_module("typer")
    known = typer.main.get_command(importlib.import_module("accord.cli").app).commands
    assert set(verbs) <= set(known)


@pytest.mark.parametrize("page", PAGES, ids=PAGE_IDS)
def test_links_lead_somewhere(page):
    text = SKIP.sub("", re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:|#", target):
            continue
        assert (page.parent / target.split("#")[0]).exists(), f"{page.name}: no file {target}"


@pytest.mark.parametrize("name", ["accord", *MODULES])
def test_doctests(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    failed, _ = doctest.testmod(importlib.import_module(name), extraglobs={"torch": torch})
    assert failed == 0


@pytest.mark.parametrize("name", public_names())
def test_every_public_name_has_a_page_and_a_docstring(name):
    pages = "\n".join(page.read_text(encoding="utf-8") for page in DOCS)
    mentioned = re.search(rf"\baccord\.{name}\b|^#+ .*\b{name}\b", pages, flags=re.MULTILINE)
    assert mentioned, f"no page in docs has a heading with {name} or mentions accord.{name}"
    thing = getattr(accord, name)
    if inspect.isclass(thing) or callable(thing) or inspect.ismodule(thing):
        text = thing.__doc__ or ""
        assert text.strip(), f"accord.{name} has no docstring"
        assert not text.startswith(f"{name}("), f"accord.{name} has only the docstring that dataclass makes"


@pytest.mark.parametrize("name", sorted(exported("tpp")))
def test_every_public_name_of_tpp_has_a_page(name):
    pages = "\n".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "tpp").glob("*.md"))
    mentioned = re.search(rf"\btpp\.{name}\b|^#+ .*\b{name}\b", pages, flags=re.MULTILINE)
    assert mentioned, f"no page in docs/tpp has a heading with {name} or mentions accord.tpp.{name}"


@pytest.mark.parametrize("name", sorted(exported("architectures")))
def test_every_architecture_and_encoder_is_on_the_page(name):
    page = (ROOT / "docs" / "architectures.md").read_text(encoding="utf-8")
    assert re.search(rf"\b{name}\b", page), f"docs/architectures.md does not mention {name}"


def test_blocks_are_found():
    text = (
        "a\n```python\nx = 1\n```\n<!-- not executed: needs a GPU -->\n```python\ny\n```\n```bash\naccord run x\n```\n"
    )
    assert blocks_of(text) == [
        Block("python", "x = 1", 3, None),
        Block("python", "y", 7, "needs a GPU"),
        Block("bash", "accord run x", 10, None),
    ]
    lines = (
        "accord run digits",
        "$ accord demo",
        "cd a && accord report x",
        ".venv/bin/accord --help",
        "pip install accord",
    )
    found = [COMMAND.findall(line) for line in lines]
    assert found == [["run"], ["demo"], ["report"], ["--help"], []]
