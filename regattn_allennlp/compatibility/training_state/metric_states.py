"""What the metrics of a model have counted, as PyTorch loads it again."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from regattn_allennlp.compatibility.training_state.plain_numbers import plain

_PLAIN = (type(None), bool, int, float, str, torch.Tensor, np.ndarray)


def metric_states(model: torch.nn.Module) -> dict[str, dict[str, Any]]:
    """The counts of each metric of the model, by its place in the model. What is no number or text is left out."""
    states = {}
    for path, metric in _metrics(model):
        counts = {name: _plain_collections(plain(value)) for name, value in vars(metric).items()}
        counts = {name: value for name, value in counts.items() if _is_plain(value)}
        on_gpu = [name for name, value in counts.items() if isinstance(value, torch.Tensor) and value.is_cuda]
        states[path] = {"counts": counts, "on_gpu": on_gpu}
    return states


def set_metric_states(model: torch.nn.Module, states: dict[str, dict[str, Any]], device: torch.device) -> None:
    """Has the metrics go on counting from what `metric_states` found."""
    for path, metric in _metrics(model):
        state = states.get(path, {"counts": {}, "on_gpu": []})
        for name, value in state["counts"].items():
            counted = getattr(metric, name, None)
            if isinstance(counted, dict):
                counted.clear()
                counted.update(value)  # not replaced: it may be of a kind that begins new names at 0
            else:
                setattr(metric, name, value.to(device) if name in state["on_gpu"] else value)


def _metrics(model: torch.nn.Module) -> Iterator[tuple[str, Any]]:
    seen: set[int] = set()
    for name, module in model.named_modules():
        yield from _metrics_in(vars(module), name, seen)


def _metrics_in(value: Any, path: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
    from allennlp.training.metrics import Metric

    if isinstance(value, Metric) and id(value) not in seen:
        seen.add(id(value))
        yield path, value
        value = vars(value)
    elif isinstance(value, (list, tuple)):
        value = dict(enumerate(value))
    if isinstance(value, dict):
        for key, item in value.items():
            if isinstance(item, (Metric, dict, list, tuple)):
                yield from _metrics_in(item, f"{path}.{key}", seen)


def _plain_collections(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain_collections(item) for key, item in value.items()}
    return value


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_is_plain(key) and _is_plain(item) for key, item in value.items())
    if type(value) in (list, tuple):
        return all(map(_is_plain, value))
    return isinstance(value, _PLAIN)
