"""
Times packed rows beside padding, forward and backward together: rows of many lengths, one after another, as the edges
of a graph and the words of a batch of sentences are. With padding, the entries are first copied to a matrix with a row
as long as the longest for each, and the weights copied back. torch_geometric's softmax over an index is there for
comparison. All take turns in one run; the table has median times and the median of the ratios to that softmax (or,
without torch_geometric, to softmax of this package), and how many entries a padded matrix has for each real one.

    uv run --with torch_geometric python benchmarks/packed.py
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

import regattn_allennlp
from regattn_allennlp import RegularizedMax

try:
    from torch_geometric.utils import softmax as geometric_softmax
except ImportError:
    geometric_softmax = None

OPERATORS = {
    "softmax": RegularizedMax.by_name("softmax"),
    "sparsemax": RegularizedMax.by_name("sparsemax"),
    "fusedmax": RegularizedMax.by_name("fusedmax"),
    "oscarmax": RegularizedMax.by_name("oscarmax"),
    "entmax": RegularizedMax.by_name("entmax"),
}
HEADS = 4


def lengths_of_graph(generator: torch.Generator) -> Tensor:
    """The numbers of neighbours of 5,000 nodes, of which few have many."""
    uniform = torch.rand(5_000, generator=generator, dtype=torch.float64)
    return (2 * uniform**-0.7).long().clamp(max=500)


def lengths_of_sentences(generator: torch.Generator) -> Tensor:
    """For each word of 64 sentences, the words of its sentence: self-attention."""
    lengths = torch.randint(5, 60, (64,), generator=generator)
    return lengths.repeat_interleave(lengths)


def candidates(lengths: Tensor) -> dict[str, Callable[[Tensor], Tensor]]:
    """Functions of scores of shape (num_entries, heads)."""
    offsets = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
    index = torch.repeat_interleave(lengths)
    mask = torch.arange(int(lengths.max()), device=lengths.device) < lengths.unsqueeze(1)

    def packed(operator: RegularizedMax) -> Callable[[Tensor], Tensor]:
        return lambda scores: operator(scores, None, offsets)

    def padded(operator: RegularizedMax) -> Callable[[Tensor], Tensor]:
        def weights(scores: Tensor) -> Tensor:
            matrix = scores.new_zeros(*mask.shape, scores.size(1))
            matrix[mask] = scores
            return operator(matrix, mask.unsqueeze(-1))[mask]

        return weights

    functions: dict[str, Callable[[Tensor], Tensor]] = {}
    if geometric_softmax is not None:
        functions["torch_geometric softmax"] = lambda scores: geometric_softmax(scores, index, num_nodes=len(lengths))
    for name, kind in OPERATORS.items():
        functions[f"{name}, packed"] = packed(kind(dim=0))
        functions[f"{name}, padded"] = padded(kind(dim=1))
    return functions


def time_call(function: Callable[[Tensor], Tensor], scores: Tensor, upstream: Tensor) -> float:
    if scores.is_cuda:
        torch.cuda.synchronize()
    start = time.perf_counter()
    function(scores).backward(upstream)
    if scores.is_cuda:
        torch.cuda.synchronize()
    scores.grad = None
    return time.perf_counter() - start


def measure(lengths: Tensor, num_rounds: int) -> dict[str, list[float]]:
    generator = torch.Generator().manual_seed(1)
    shape = int(lengths.sum()), HEADS
    scores = torch.randn(shape, generator=generator).to(lengths.device).requires_grad_()
    upstream = torch.randn(shape, generator=generator).to(lengths.device)
    functions = candidates(lengths)
    for function in functions.values():
        time_call(function, scores, upstream)
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(num_rounds):
        for name, function in functions.items():
            times[name].append(time_call(function, scores, upstream))
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--rounds", type=int, default=11, help="how often each has its turn (default: 11)")
    arguments = parser.parse_args()

    processor = torch.cuda.get_device_name() if arguments.device == "cuda" else platform.machine()
    print(
        f"{processor}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}, regattn_allennlp "
        f"{regattn_allennlp.__version__}, float32, {HEADS} heads; forward and backward\n"
    )
    for title, make in {"edges of a graph": lengths_of_graph, "words of sentences": lengths_of_sentences}.items():
        lengths = make(torch.Generator().manual_seed(0)).to(arguments.device)
        padding = len(lengths) * int(lengths.max()) / int(lengths.sum())
        times = measure(lengths, arguments.rounds)
        reference = next(iter(times.values()))
        print(
            f"{title}: {len(lengths)} rows of {int(lengths.min())} to {int(lengths.max())}, {int(lengths.sum())} "
            f"entries; padded {padding:.1f} times as many\n"
        )
        print(f"| | milliseconds, median | / {next(iter(times))} |\n| --- | --- | --- |")
        for name, own in times.items():
            ratio = statistics.median(a / b for a, b in zip(own, reference, strict=True))
            print(f"| {name} | {statistics.median(own) * 1000:.2f} | {ratio:.2f} |")
        print()


if __name__ == "__main__":
    main()
