"""States in which numbers are Python's."""

from typing import Any

import numpy as np


def plain(value: Any) -> Any:
    """The value with the numbers of numpy in it as those of Python, in dictionaries, lists and tuples too."""
    if isinstance(value, np.generic):
        return value.item()
    if type(value) is dict:
        return {plain(key): plain(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(plain, value))
    return value
