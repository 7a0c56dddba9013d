"""The `neurl` command: `neurl train seed=1` is `python train.py seed=1`, from any folder."""

import difflib
import runpy
import sys
from pathlib import Path

from conf.schema.layout import version_of

COMMANDS = {
    "train": "train an agent, or resume a run",
    "evaluate": "evaluate a run",
    "compare": "run studies, and compare runs",
    "tune": "search for the best values",
    "analyze": "measure what a run's memory holds",
    "doctor": "check parts before they train",
    "export": "export a run's policy",
}
VERSION = version_of("neurl")


def main() -> None:
    """Run a script with the words that follow its name; a wrong name ends with exit code 2."""
    name, *words = sys.argv[1:] or ["--help"]
    if name in ("--help", "-h"):
        print("neurl COMMAND [group=option] [key=value] ...; neurl COMMAND --help tells more\n")
        print(*(f"  {command:<10}{text}" for command, text in COMMANDS.items()), sep="\n")
    elif name == "--version":
        print(f"neurl {VERSION} ({Path(__file__).parent})")
    elif name in COMMANDS:
        script = Path(__file__).with_name(f"{name}.py")
        sys.argv[1:] = words
        # By its place: other projects have modules of these names, too.
        runpy.run_path(str(script), run_name="__main__")
    else:
        print(f"neurl: {name!r} is no command{_nearest(name)}", file=sys.stderr)
        sys.exit(2)


def _nearest(name: str) -> str:
    if "=" in name:
        return f"; the command stands first: neurl train {name}"
    nearest = difflib.get_close_matches(name.removesuffix(".py"), COMMANDS, n=1)
    return f"; did you mean {nearest[0]}?" if nearest else f"; commands: {', '.join(COMMANDS)}"


if __name__ == "__main__":
    main()
