"""Lays out a wheel: the checkout's packages and scripts below `neurl`, their imports rewritten.

`from agents.ppo import PPO` becomes `from neurl.agents.ppo import PPO`. Text stays as it is: a
`_target_` in YAML is found in either (`conf.schema.layout`), and only the help of the scripts
says `neurl train` for `python train.py`. Imports nothing but the standard library.
"""

import ast
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from neurl_command import COMMANDS
from neurl_guard import PACKAGES

MODULES = ("neurl", "neurl_command", "neurl_guard", *COMMANDS)
"""Files at the top of the checkout."""
_IMPORTING = ("import_module", "resolve_name")
"""Functions that import what a text says."""
_SCRIPT = re.compile(rf"(?:python )?\b({'|'.join(COMMANDS)})\.py\b")


def lay_out(checkout: Path, wheel: Path) -> None:
    """Write the folder `neurl` of a wheel.

    Raises:
        ValueError: an import cannot be rewritten; names its file and line.
    """
    top = wheel / "neurl"
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(checkout / package, top / package, ignore=ignored)
    for module in MODULES:
        shutil.copy(checkout / f"{module}.py", top)
    (top / "neurl.py").rename(top / "__init__.py")
    (top / "__main__.py").write_text("from neurl_command import main\n\nmain()\n")
    (top / "py.typed").touch()
    for path in top.rglob("*.py"):
        try:
            text = rewritten(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path.relative_to(top)}, {error}") from error
        path.write_text(text, encoding="utf-8")
    for path in (top / "conf").glob("*.yaml"):
        text = _SCRIPT.sub(r"neurl \1", path.read_text(encoding="utf-8"))
        path.write_text(text, encoding="utf-8")


def rewritten(source: str) -> str:
    """Rewrite the imports in a file's text; every other character stays.

    Raises:
        ValueError: an import cannot be rewritten.
    """
    lines = source.encode().splitlines(keepends=True)  # `ast` counts columns in bytes
    # Backwards: what stands before a name on its line keeps its column.
    for line, column, module in sorted(_modules(ast.parse(source)), reverse=True):
        text, name = lines[line - 1], module.encode()
        start = text.find(name, column)
        if start < 0:
            raise ValueError(f"line {line}: write the name {module} on the line of its statement")
        lines[line - 1] = text[:start] + _renamed(module).encode() + text[start + len(name) :]
    return b"".join(lines).decode()


def _modules(tree: ast.AST) -> Iterator[tuple[int, int, str]]:
    """Yield each name of a module of ours, with the line and column at which its text can begin."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and _is_ours(node.module):
            yield node.lineno, node.col_offset + len("from"), str(node.module)
        elif isinstance(node, ast.Import):
            yield from _imported(node)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(_IMPORTING):
            for each in node.args:
                if isinstance(each, ast.Constant) and _is_ours(each.value):
                    yield each.lineno, each.col_offset, str(each.value)


def _imported(statement: ast.Import) -> Iterator[tuple[int, int, str]]:
    for each in statement.names:
        if _is_ours(each.name) and each.asname is None and each.name != "neurl":
            # It binds `agents`, but the rewritten one would bind `neurl`.
            remedy = f"write from ... import, or import {each.name} as ..."
            raise ValueError(f"line {statement.lineno}: import {each.name}: {remedy}")
        if _is_ours(each.name):
            yield each.lineno, each.col_offset, each.name


def _is_ours(module: object) -> bool:
    return isinstance(module, str) and re.split("[.:]", module)[0] in {*PACKAGES, *MODULES}


def _renamed(module: str) -> str:
    return module if module == "neurl" else f"neurl.{module}"
