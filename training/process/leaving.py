"""The end of a process whose environments left threads behind."""

import gc
import os
import sys
import threading
from collections.abc import Callable

from training.process.machine import configure_torch


def leave(main: Callable[[], object]) -> None:
    """Call an entry point and end the process with its exit code.

    Python waits for every thread that is no daemon: for ever, if it is a simulator's.
    """
    configure_torch()
    code: str | int | None = 0
    try:
        main()
    except SystemExit as end:
        code = end.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    lasting = [thread for thread in threading.enumerate() if not thread.daemon]
    lasting.remove(threading.main_thread())
    if not lasting:
        gc.freeze()  # the last search for cycles goes through all of torch: half a second
        sys.exit(code)
    which = f"{len(lasting)} of the environment's threads ({lasting[0].name}, ...)"
    message = f"{code}\n" if isinstance(code, str) else ""
    print(f"{message}notice: ends while {which} still run", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))
