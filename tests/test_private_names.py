"""What a module calls private stays inside it."""

import ast
from pathlib import Path

import blemish

SOURCE = Path(blemish.__file__).parent


def test_no_module_imports_a_private_name_of_another() -> None:
    borrowed = [
        f"{file.relative_to(SOURCE)}:{node.lineno} {alias.name}"
        for file in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("blemish")
        for alias in node.names
        if alias.name.startswith("_") and not alias.name.startswith("__")
    ]
    assert borrowed == []
