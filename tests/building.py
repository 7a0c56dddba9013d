"""Builds networks from options written as keyword arguments."""

from dataclasses import MISSING, fields
from inspect import signature
from typing import Any


def build(kind: Any, *arguments: Any, **values: Any) -> Any:
    """Call a class with an instance of its options; those that are not given are None."""
    parameters = signature(kind).parameters
    options = getattr(kind, "Options", None) or parameters["options"].annotation
    keywords = {name: values.pop(name) for name in values.keys() & parameters.keys()}
    needed = {
        field.name: None
        for field in fields(options)
        if field.default is MISSING and field.default_factory is MISSING
    }
    return kind(*arguments, options=options(**needed | values), **keywords)
