"""How the `allennlp` command tells its user of a mistake."""

import functools
import logging
import os
import sys
from types import TracebackType
from typing import Any, Optional

from regattn_allennlp.compatibility.mend import mend


@mend(
    "allennlp.commands",
    puts_back="A mistake in a config, in data or in a path is told in one line; the traceback is in `out.log`",
    versions="allennlp==2.10.1",
    test="tests/compatibility/mistakes_test.py::test_a_mistake_is_told_in_a_line",
)
def tell_mistakes_in_a_line(commands: Any) -> None:
    main = commands.main

    @functools.wraps(main)
    def main_that_tells_mistakes_in_a_line(*arguments: Any, **options: Any) -> None:
        try:
            main(*arguments, **options)
        except mistakes():
            # Who called this function still gets the error: this is for one that ends the process.
            is_set = getattr(sys.excepthook, "func", None) is tell
            if not (is_set or os.environ.get("ALLENNLP_DEBUG")):
                sys.excepthook = functools.partial(tell, sys.excepthook)
            raise

    commands.main = main_that_tells_mistakes_in_a_line


def mistakes() -> tuple[type[Exception], ...]:
    from allennlp.common.checks import ConfigurationError

    return ConfigurationError, FileNotFoundError


def tell(others: Any, kind: type[BaseException], error: BaseException, traceback: Optional[TracebackType]) -> None:
    """A hook for uncaught errors: mistakes are told in a line, and what is none by the hook `others`."""
    if not issubclass(kind, mistakes()):
        others(kind, error, traceback)
        return
    print(f"allennlp: error: {error}", file=sys.stderr)
    record = logging.root.makeRecord(
        "root", logging.CRITICAL, __file__, 0, "Uncaught exception", (), (kind, error, traceback)
    )
    for handler in logging.root.handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(record)
