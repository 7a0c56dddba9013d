"""The layout's promises, read from the source: floors, sizes, generators, safe loading."""

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from pkgutil import resolve_name

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("agents", "analysis", "conf", "envs", "networks", "training")
ENTRY_POINTS = (
    "analyze",
    "compare",
    "doctor",
    "evaluate",
    "export",
    "neurl",
    "neurl_command",
    "train",
    "tune",
)

# What each floor may import of ours; entry points may import everything.
FLOORS: dict[str, set[str]] = {
    "conf": set(),
    "envs": set(),
    "networks": set(),
    "neurl_guard": set(),
    "agents": {"networks"},
    "training": {"agents", "conf", "envs", "networks"},
    "analysis": {"agents", "conf", "envs", "networks", "training"},
}
FOR_ALL = "conf.schema"  # options dataclasses, without a heavy import
OURS = {*FLOORS, *ENTRY_POINTS, "benchmarks", "neurl_wheel", "tests"}
HEAVY = {"gymnasium", "numpy", "tensorboard", "torch"}

MAX_LINES = 400
MAX_PURE_LINES = 17_831
"""Of the library: what is new must be paid for by what it makes unnecessary. The aim is 13,500."""
LAYOUT = {
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT,
    tokenize.ENDMARKER,
}  # fmt: skip
CODE_LOADING_MODULES = {"cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}
TORCH_SAMPLERS = {
    "bernoulli", "multinomial", "normal", "poisson", "rand", "rand_like", "randint",
    "randint_like", "randn", "randn_like", "randperm",
}  # fmt: skip
TENSOR_SAMPLERS = {
    "bernoulli_", "cauchy_", "exponential_", "geometric_", "log_normal_", "multinomial",
    "normal_", "random_", "uniform_",
}  # fmt: skip
SEEDED_NUMPY = {"BitGenerator", "Generator", "PCG64", "Philox", "SeedSequence", "default_rng"}


def library_files() -> list[Path]:
    files = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    single = [ROOT / f"{name}.py" for name in (*ENTRY_POINTS, "neurl_guard")]
    return files + [path for path in single if path.exists()]


def floor_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def label(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported_modules(tree: ast.AST) -> Iterator[str]:
    """Full names, also of imports inside functions and of `importlib.import_module("...")`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module
        elif isinstance(node, ast.Call) and dotted(node.func).endswith("import_module"):
            yield from (str(arg.value) for arg in node.args if isinstance(arg, ast.Constant))


def dotted(node: ast.AST) -> str:
    """Write `a.b.c` as text; "" stands for anything that is not a name."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return ""


def keywords(call: ast.Call) -> dict[str | None, ast.expr]:
    return {keyword.arg: keyword.value for keyword in call.keywords}


def is_constant(node: ast.expr | None, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def climbing_imports(floor: str, tree: ast.AST) -> list[str]:
    if floor in ENTRY_POINTS:
        return []
    allowed = FLOORS[floor] | {floor}
    others = (name for name in imported_modules(tree) if not f"{name}.".startswith(f"{FOR_ALL}."))
    return sorted(({name.split(".")[0] for name in others} & OURS) - allowed)


def global_randomness(tree: ast.AST) -> list[str]:
    """Draws from a generator that the whole process shares, and seeding of one."""
    return [
        f"line {node.lineno}: {dotted(node.func)}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and draws_globally(node)
    ]


def draws_globally(call: ast.Call) -> bool:
    parent, _, name = dotted(call.func).rpartition(".")
    given = keywords(call)
    if parent in {"np.random", "numpy.random"}:
        return name not in SEEDED_NUMPY or (name == "default_rng" and not (call.args or given))
    if parent == "random":
        return name != "Random" or not call.args
    if parent == "torch":
        return name == "seed" or (name in TORCH_SAMPLERS and "generator" not in given)
    initializes = parent.split(".")[-1] == "init"  # torch.nn.init: seeded where modules are built
    return name in TENSOR_SAMPLERS and not initializes and "generator" not in given


def unsafe_loading(tree: ast.AST) -> list[str]:
    modules = {name.split(".")[0] for name in imported_modules(tree)} & CODE_LOADING_MODULES
    calls = [
        f"line {node.lineno}: {dotted(node.func)}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and loads_code(node)
    ]
    return sorted(modules) + calls


def loads_code(call: ast.Call) -> bool:
    name, given = dotted(call.func), keywords(call)
    if name in {"eval", "exec", "yaml.load", "yaml.unsafe_load", "yaml.full_load"}:
        return True
    if name == "torch.load" and not is_constant(given.get("weights_only"), True):
        return True
    return is_constant(given.get("weights_only"), False) or is_constant(
        given.get("allow_pickle"), True
    )


def recurrent_twins(tree: ast.AST) -> list[str]:
    """Branches on recurrence and classes named after it."""
    branches = [
        f"line {node.lineno}: if {ast.unparse(node.test)}"
        for node in ast.walk(tree)
        if isinstance(node, ast.If | ast.IfExp)
        and any("recurrent" in dotted(part).lower() for part in ast.walk(node.test))
    ]
    classes = [
        f"line {node.lineno}: class {node.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and "recurrent" in node.name.lower()
    ]
    return branches + classes


def constructor_defaults(tree: ast.AST) -> list[str]:
    """Arguments of constructors that bring a value of their own: YAML is the one home of those."""
    return [
        f"line {function.lineno}: {owner.name}"
        for owner in ast.walk(tree)
        if isinstance(owner, ast.ClassDef)
        for function in owner.body
        if isinstance(function, ast.FunctionDef) and function.name == "__init__"
        if function.args.defaults or any(function.args.kw_defaults)
    ]


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def offenders(
    check: Callable[[ast.AST], list[str]], chosen: Callable[[str], bool] = bool
) -> dict[str, list[str]]:
    """What a check finds, by file, in those whose name is chosen."""
    found = {label(path): check(parse(path)) for path in library_files() if chosen(label(path))}
    return {name: lines for name, lines in found.items() if lines}


def heavy_imports(tree: ast.AST) -> list[str]:
    """Refusals must be quick."""
    return sorted({name.split(".")[0] for name in imported_modules(tree)} & HEAVY)


def private_imports(tree: ast.AST) -> list[str]:
    """Modules that their own library may move at any time."""
    private = (name for name in imported_modules(tree) if re.search(r"(^|\.)_(?!_)", name))
    return sorted({*private} - {"torch._dynamo"})  # its switch for autograd has no public name


def test_imports_run_one_way() -> None:
    climbing = {path: climbing_imports(floor_of(path), parse(path)) for path in library_files()}
    assert not {label(path): names for path, names in climbing.items() if names}, FLOORS


def test_configuration_loads_nothing_heavy() -> None:
    assert not offenders(heavy_imports, lambda name: name.startswith("conf/"))


def test_no_private_module_is_imported() -> None:
    assert not offenders(private_imports)


def test_a_file_holds_one_idea() -> None:
    lines = {label(p): p.read_text(encoding="utf-8").count("\n") for p in library_files()}
    assert len(lines) > 100
    assert not {name: count for name, count in lines.items() if count > MAX_LINES}


def pure_lines(path: Path) -> set[int]:
    """Lines of code, without docstrings, comments, imports and blank lines."""
    text = path.read_text(encoding="utf-8")
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in LAYOUT:
            lines |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if isinstance(node, ast.Import | ast.ImportFrom) or is_text:
            lines -= set(range(node.lineno, (node.end_lineno or 0) + 1))
    return lines


def test_the_library_stays_small(tmp_path: Path) -> None:
    example = tmp_path / "example.py"
    example.write_text('"""Text."""\n\nimport io\n\n# why\nx = (\n    1,\n)\n')
    assert len(pure_lines(example)) == 3
    assert sum(len(pure_lines(path)) for path in library_files()) <= MAX_PURE_LINES


def test_randomness_comes_from_generators() -> None:
    found = offenders(global_randomness)
    # Environments of others draw from the global generators.
    assert len(found.pop("envs/seeding.py")) == 4
    assert not found


def test_nothing_loads_code() -> None:
    assert not offenders(unsafe_loading)


def test_constructors_have_no_defaults() -> None:
    assert not offenders(
        constructor_defaults, lambda name: name.startswith(("agents/", "networks/"))
    )


def test_only_the_memory_knows_recurrence() -> None:
    assert not offenders(recurrent_twins, lambda name: not name.startswith("networks/memory/"))


@pytest.mark.parametrize(
    ("check", "wrong", "right"),
    [
        (global_randomness, "np.random.rand(3)", "np.random.default_rng(0).random(3)"),
        (global_randomness, "np.random.default_rng()", "np.random.SeedSequence(1)"),
        (global_randomness, "random.choice(x)", "random.Random(1).choice(x)"),
        (global_randomness, "torch.randn(3)", "torch.randn(3, generator=g)"),
        (global_randomness, "noise.uniform_()", "noise.uniform_(generator=g)"),
        (global_randomness, "x.normal_()", "nn.init.normal_(x)"),
        (unsafe_loading, "import pickle", "import json"),
        (unsafe_loading, "torch.load(f)", "torch.load(f, weights_only=True)"),
        (unsafe_loading, "np.load(f, allow_pickle=True)", "np.load(f)"),
        (unsafe_loading, "eval('1')", "model.eval()"),
        (heavy_imports, "from torch import nn", "import json"),
        (
            private_imports,
            "from hydra._internal.utils import x",
            "from __future__ import annotations",
        ),
        (recurrent_twins, "if self.is_recurrent: pass", "if self.state_size: pass"),
        (recurrent_twins, "class RecurrentPPO: pass", "class PPO: pass"),
        (
            constructor_defaults,
            "class A:\n def __init__(self, *, rate=1): pass",
            "class A:\n def __init__(self, *, rate): pass",
        ),
    ],
)
def test_the_checks_can_fail(check, wrong: str, right: str) -> None:
    assert check(ast.parse(wrong))
    assert not check(ast.parse(right))


def test_the_floors_can_be_broken() -> None:
    assert climbing_imports("networks", ast.parse("from agents.ppo import PPO")) == ["agents"]
    assert climbing_imports("agents", ast.parse("def f():\n import training")) == ["training"]
    assert climbing_imports("agents", ast.parse("from conf.checking import steps")) == ["conf"]
    assert not climbing_imports("agents", ast.parse("from conf.schema.agents import PPOOptions"))
    assert not climbing_imports("agents", ast.parse("from networks.extractors.mlp import MLP"))


def test_every_name_of_the_tour_exists() -> None:
    tour = (ROOT / "docs/architecture.md").read_text().split("## A tour")[1].split("\n## ")[0]
    packages = "agents|conf|envs|networks|training"
    names = re.findall(rf"`((?:{packages})\.[\w.]+)`", tour)
    assert len(re.findall(r"^\d+\. ", tour, re.M)) == 20
    for name in names:
        assert resolve_name(name), name
    assert len(names) >= 20
