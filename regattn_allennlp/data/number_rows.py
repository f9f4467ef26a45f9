import math
from typing import Any

import numpy as np
from allennlp.common.checks import ConfigurationError


def number_rows(key: str, rows: Any, thing: str) -> np.ndarray:
    """
    Rows of finite numbers, at least one, all of the same length, in float32.

    # Parameters

    key : `str`
        What they are called in the input, for the errors.
    rows : `Any`
        As JSON has it.
    thing : `str`
        What has a row each, for the errors: "region".

    # Raises

    `ConfigurationError`
        If they are not.
    """
    if not isinstance(rows, list) or not rows or not all(isinstance(row, list) and row for row in rows):
        raise ConfigurationError(f'"{key}" must be a list with a list of numbers for each {thing}')
    for number, row in enumerate(rows):
        if len(row) != len(rows[0]):
            raise ConfigurationError(f'"{key}": row {number} has {len(row)} numbers, row 0 has {len(rows[0])}')
        for value in row:
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                raise ConfigurationError(f'"{key}": row {number} has {value!r} where a finite number is wanted')
    return np.array(rows, dtype=np.float32)
