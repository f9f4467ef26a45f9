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
        "python": [version, _packed(numbers), gauss],
        "numpy": [algorithm, _packed(keys), *rest],
        "torch": torch.get_rng_state(),
        "device": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }


def set_random_states(states: dict[str, Any], device: torch.device) -> None:
    """Sets the generators to what `random_states` found."""
    version, numbers, gauss = states["python"]
    random.setstate((version, tuple(_unpacked(numbers).tolist()), gauss))
    algorithm, keys, *rest = states["numpy"]
    np.random.set_state((algorithm, _unpacked(keys), *rest))
    torch.set_rng_state(states["torch"])
    if states["device"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(states["device"], device)


def _packed(numbers: Any) -> torch.Tensor:
    # Of 32 bits each, without a sign, which not all of PyTorch knows.
    return torch.from_numpy(np.array(numbers, dtype=np.uint32).view(np.int32))


def _unpacked(numbers: torch.Tensor) -> np.ndarray:
    return numbers.numpy().view(np.uint32)
