"""The states of all generators of random numbers that a training draws from, as PyTorch loads them again."""

import random
from typing import Any

import numpy as np
import torch


def random_states(device: torch.device) -> dict[str, Any]:
    """The states of the generators of Python, numpy, PyTorch and, if that is a GPU, the device."""
    version, numbers, gauss = random.getstate()
    numpy_states: Any = np.random.get_state()
    algorithm, keys, *rest = numpy_states
    return {
        "python": [version, torch.tensor(numbers), gauss],
        "numpy": [algorithm, torch.from_numpy(keys.astype(np.int64)), *rest],
        "torch": torch.get_rng_state(),
        "device": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }


def set_random_states(states: dict[str, Any], device: torch.device) -> None:
    """Sets the generators to what `random_states` found."""
    version, numbers, gauss = states["python"]
    random.setstate((version, tuple(numbers.tolist()), gauss))
    algorithm, keys, *rest = states["numpy"]
    np.random.set_state((algorithm, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(states["torch"])
    if states["device"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(states["device"], device)
