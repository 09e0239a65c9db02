"""The shape of the source: who may import whom, who may touch gradients, how long a file may be."""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "accord"
FILES = sorted(SOURCE.rglob("*.py"))
NAMES = [str(path.relative_to(SOURCE)) for path in FILES]

# unit -> what it may import of ours beside itself; a dotted name allows that module only
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "step": set(),
    "linalg": set(),
    "conflict": {"linalg"},
    "spelling": {"errors"},
    "inner": set(),
    "rows": {"inner", "blocks"},
    "elsewhere": {"rows"},
    "methods": {"linalg", "spelling", "randomness", "inner", "rows", "elsewhere", "step", "errors"},
    "sharing": {"errors"},
    "blocks": {"errors"},
    "losses": {"errors"},
    "scale": {"errors"},
    "undisturbed": set(),
    "engines": {"sharing", "blocks", "losses", "rows", "inner", "elsewhere", "undisturbed", "step", "linalg"}
    | {"errors"},
    "pace": {"errors"},
    "randomness": set(),
    "probe": {"engines", "blocks", "step"},
    "balancer": {"engines", "methods", "blocks", "elsewhere", "losses", "probe", "randomness", "rows", "scale"}
    | {"undisturbed", "step", "errors"},
    "record": {"step", "errors"},
    "monitor": {"balancer", "engines", "blocks", "losses", "step", "record", "pace", "errors"},
    "schedule": {"conflict", "step", "errors"},
    "sparse": {"balancer", "engines", "inner", "losses", "monitor", "record", "sharing", "spelling", "step"}
    | {"undisturbed", "errors"},
    "restructure": {"conflict", "record", "sharing", "undisturbed", "errors"},
    "lookahead": {"displacement", "errors"},
    "displacement": {"errors"},
    "ahead": {"conflict", "blocks", "displacement", "monitor", "step", "undisturbed", "errors"},
    "noise": {"conflict", "errors"},
    "effect": {"balancer", "conflict", "engines", "losses", "linalg", "sharing", "step", "undisturbed", "errors"},
    "equilibrium": {"engines", "errors"},
    "through_time": {"errors"},
    "curves": {"errors"},
    "pareto": {"errors"},
    "latency": {"undisturbed", "errors"},
    "data": {"errors"},
    "tpp": set(),
    "architectures": {"spelling", "errors"},
    "problems": {"architectures", "data", "tpp", "spelling", "errors"},
    "bench": {"balancer", "monitor", "problems", "methods", "record", "conflict", "data", "sharing", "step", "errors"}
    | {"sparse", "restructure", "undisturbed"},
    "report": {"conflict", "record", "tpp", "errors"}
    | {f"bench.{name}" for name in ("store", "stats", "comparison", "labels", "ranking", "significance", "wording")},
    "studies": {"problems", "errors", "bench.stats", "bench.files", "bench.pool", "report", "methods", "record"}
    | {"conflict", "curves", "effect", "latency", "noise", "pareto", "through_time"},
}
EVERYTHING = {"cli", "__main__", "__init__"}
OPTIONAL = (
    "polars typer rich pydantic plotly jinja2 matplotlib sklearn scipy safetensors pandas "
    "transformers ray optuna yaml PIL peft accelerate"
)
LONGEST_FILE, MEDIAN_FILE, LONGEST_FUNCTION = 350, 120, 60


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def unit(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def is_module(dotted: str) -> bool:
    path = SOURCE.joinpath(*dotted.split("."))
    return path.with_suffix(".py").exists() or path.is_dir()


def imports(path: Path) -> set[str]:
    """Our modules that a file imports, anywhere in it, as dotted names below ``accord``; "" is the package itself."""
    package = ("accord", *path.relative_to(SOURCE).parts[:-1])
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([*package[: len(package) - node.level + 1], *filter(None, [base])])
            for alias in node.names:
                deeper = f"{base}.{alias.name}"
                found.add(deeper if is_module(deeper.removeprefix("accord.")) else base)
    ours = {name for name in found if name == "accord" or name.startswith("accord.")}
    return {name.removeprefix("accord").removeprefix(".") for name in ours}


def calls(path: Path) -> list[ast.Call]:
    return [node for node in ast.walk(tree(path)) if isinstance(node, ast.Call)]


def functions(module: ast.Module) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(module) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def test_the_source_was_found():
    assert "step.py" in NAMES


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_imports_go_one_way(path):
    own = unit(path)
    if own in EVERYTHING:
        return
    assert own in ALLOWED, f"say in ALLOWED what the new unit {own!r} may import"
    allowed = ALLOWED[own] | {own}
    for name in imports(path):
        if not name and own == "studies":  # written as a user writes, with `import accord`
            continue
        assert name, f"{path.name} imports from `accord` itself: import from the module that defines it"
        assert any(name == a or name.startswith(f"{a}.") for a in allowed), f"{own} must not import {name}"


def test_allowed_imports_have_no_circle():
    done: set[str] = set()
    while rest := {
        name: {a.split(".")[0] for a in needs} - done for name, needs in ALLOWED.items() if name not in done
    }:
        free = {name for name, needs in rest.items() if not needs}
        assert free, f"these units need each other: {sorted(rest)}"
        done |= free


def test_importing_accord_needs_torch_and_numpy_only():
    code = f"import sys, accord; print(*[name for name in {OPTIONAL.split()!r} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []


def test_only_engines_differentiate():
    """``autograd.grad`` and ``backward`` outside the engines would be gradients that nobody accounts for.

    ``tpp/training.py`` has the one exception, the gradient of the plain sum: that package can be used without engines.
    Studies are loops of users, with Balancers of any name.
    """
    forbidden = re.compile(r"(^|\.)(autograd\.(grad|backward|functional\.\w+)|func\.(grad|vjp|jvp|jacrev|jacfwd)\b.*)$")
    bad = []
    for path in FILES:
        if unit(path) in ("engines", "studies") or path == SOURCE / "tpp" / "training.py":
            continue
        ours = set()  # modules and objects of ours have their own `backward`
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("accord"):
                ours |= {alias.asname or alias.name for alias in node.names}
            if isinstance(node, ast.ImportFrom) and node.module in ("torch.autograd", "torch.func"):
                names = {alias.name for alias in node.names} & {"grad", "backward", "vjp", "jvp", "jacrev", "jacfwd"}
                bad += [f"{path.name}: from {node.module} import {name}" for name in names]
        for call in calls(path):
            function = ast.unparse(call.func)
            if forbidden.search(function):
                bad.append(f"{path.name}:{call.lineno}: {function}")
            elif isinstance(call.func, ast.Attribute) and call.func.attr == "backward":
                receiver = ast.unparse(call.func.value)
                if receiver not in ours and not receiver.endswith("balancer"):
                    bad.append(f"{path.name}:{call.lineno}: {function}")
    assert not bad


def writes_grad(node: ast.AST) -> bool:
    """Whether a node assigns to ``x.grad``, changes it in place (``x.grad.add_()``), or does so by ``setattr``."""
    if isinstance(node, ast.Assign | ast.Delete):
        targets = node.targets
    elif isinstance(node, ast.AugAssign | ast.AnnAssign):
        targets = [node.target]
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        value, name = node.func.value, node.func.attr
        in_place = name.endswith("_") and not name.endswith("__")
        return isinstance(value, ast.Attribute) and value.attr == "grad" and in_place
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("setattr", "delattr"):
        return any(isinstance(a, ast.Constant) and a.value == "grad" for a in node.args)
    else:
        return False
    flat = [part for target in targets for part in ast.walk(target)]
    return any(isinstance(t, ast.Attribute) and t.attr == "grad" and not isinstance(t.ctx, ast.Load) for t in flat)


def test_only_the_balancer_writes_grad():
    """Engines may set it aside and put it back (reentrant checkpoints leave no other way)."""
    bad = [
        f"{path.name}:{node.lineno}"
        for path in FILES
        if unit(path) not in ("balancer", "engines")
        for node in ast.walk(tree(path))
        if writes_grad(node)
    ]
    assert not bad


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("p.grad = 1", True),
        ("p.grad += 1", True),
        ("a, p.grad = 1, 2", True),
        ("del p.grad", True),
        ("p.grad.mul_(2)", True),
        ("setattr(p, 'grad', None)", True),
        ("x = p.grad", False),
        ("p.grad.mul(2)", False),
        ("p.grads = 1", False),
        ("d[p.grad] = 1", False),
        ("torch.autograd.grad(x, y)", False),
    ],
)
def test_writing_grad_is_recognised(code, expected):
    assert any(writes_grad(node) for node in ast.walk(ast.parse(code))) == expected


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_no_swallowed_errors_and_no_pickle(path):
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ExceptHandler):
            where = f"{path.name}:{node.lineno}"
            assert node.type is not None, f"{where}: a bare except"
            silent = all(isinstance(line, ast.Pass) for line in node.body)
            assert not silent or ast.unparse(node.type) not in ("Exception", "BaseException"), f"{where}: swallowed"
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {alias.name for alias in node.names} | {getattr(node, "module", None) or ""}
            assert not names & {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve"}, path.name
        if isinstance(node, ast.Attribute | ast.Name):
            assert ast.unparse(node) not in ("torch.load", "torch.save"), f"{path.name}:{node.lineno}: it unpickles"
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            assert ast.unparse(node.value) == "False", path.name


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_files_and_functions_stay_short(path):
    text = path.read_text(encoding="utf-8")
    lines = text.count("\n")
    assert lines <= LONGEST_FILE
    for function in functions(ast.parse(text)):
        body = function.body
        first = body[0]
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
            body = body[1:]
        length = (function.end_lineno or 0) - body[0].lineno + 1 if body else 0
        assert length <= LONGEST_FUNCTION, f"{path.name}: {function.name} has {length} lines"


def test_most_files_are_small():
    lengths = [len(path.read_text(encoding="utf-8").splitlines()) for path in FILES]
    assert statistics.median(lengths) <= MEDIAN_FILE


def test_no_paths_of_one_machine():
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, check=False,
    )  # fmt: skip
    if listed.returncode:
        pytest.skip("not a git checkout")
    paths = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    private = re.compile(rb"(?<![\w.}/~-])/(?:work|root|home/\w+)(?=[/\s\"'`),:;]|$)", re.MULTILINE)
    bad = []
    for path in paths:
        content = path.read_bytes() if path.is_file() else b""
        if b"\0" not in content:
            bad += [f"{path.relative_to(ROOT)}: {match[0].decode()}" for match in private.finditer(content)]
    assert not bad
