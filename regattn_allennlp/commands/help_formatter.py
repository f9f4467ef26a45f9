import argparse
import textwrap
from itertools import groupby


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Fits the paragraphs of a description to the terminal. What is indented, such as a command, stays as it is."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        blocks = groupby(text.splitlines(), key=lambda line: not line or line.startswith(" "))
        return "\n".join(
            "\n".join(lines) if stays else textwrap.fill(" ".join(lines), width) for stays, lines in blocks
        )
