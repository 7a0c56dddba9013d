"""Reads each YAML file once, however many configurations are composed."""

import functools

import pytest

from conf.composing.composer import Composer

composer = functools.cache(Composer)


@pytest.fixture(autouse=True)
def one_composer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every test compose with what others have read."""
    monkeypatch.setattr("conf.composing.configuration.Composer", composer)
    monkeypatch.setattr("conf.composing.command_line.Composer", composer)
