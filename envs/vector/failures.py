"""Failures of environments, in words that name the place in the user's code."""

import os
import sysconfig
import traceback

from envs.spaces import one_line

_OURS = {"agents", "analysis", "conf", "envs", "networks", "neurl", "training"}
_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})


class EnvironmentFailure(RuntimeError):
    """An environment raised, died, hung or returned data that does not fit its spaces."""


class RemoteTraceback(Exception):
    """Traceback of another process, as text."""


class RemoteFailure(Exception):
    """Exception of another process, with the text of `in_one_line`."""


def own_failure(error: BaseException) -> BaseException:
    """Returns what an environment raised, such as a panic of Rust; raises Ctrl-C."""
    if isinstance(error, KeyboardInterrupt):
        raise error
    return error


def in_one_line(error: BaseException) -> str:
    """Formats an exception in one line: `KeyError: 'ask' (market.py:14 in price_of)`."""
    message = one_line(error)
    if isinstance(error, RemoteFailure):
        return message
    text = f"{type(error).__name__}: {message}" if message else type(error).__name__
    place = place_of(error)
    return f"{text} ({place})" if place else text


def place_of(error: BaseException) -> str:
    """Returns where the user's code raised an error, or called what raised it; "" if it did not.

    That is the innermost frame outside of libraries, among those that this project called.
    """
    place = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        path, name = frame.f_code.co_filename, frame.f_globals.get("__name__", "")
        if name.partition(".")[0] in _OURS and path.startswith(_ROOT):
            place = ""
        elif not path.startswith((*_LIBRARIES, "<")):
            near = os.path.relpath(path)
            place = f"{path if near.startswith('..') else near}:{line} in {frame.f_code.co_name}"
    return place
