"""
Times the operators, forward and backward together: softmax, sparsemax, fusedmax and oscarmax of this package beside
torch.softmax, entmax.sparsemax, and the method as published, which goes row by row in Python. All take turns in one
run; the table has each one's median time and the median of its ratios, round by round, to torch.softmax and to
entmax.sparsemax.

    uv run --with entmax --with matplotlib python benchmarks/operators.py --plot docs/operators_benchmark.png

With --members it times the others: entmax with fixed and learned alpha, the p-norms, bounded weights, values, and what
a learned lam costs, each beside its peer from the entmax package, at the sizes of multi-head attention.

    uv run --with entmax python benchmarks/operators.py --members

What is not installed is left out: this runs with PyTorch, numpy and numba alone.
"""

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import regattn_allennlp
from regattn_allennlp.operators.kernels import cpu

try:
    import entmax
except ImportError:
    entmax = None

# (1, 9) is the cost of a call. (576, 16) is the attention in one batch of SNLI pairs.
SHAPES = {
    "cpu": [(1, 9), (1024, 9), (576, 16), (1024, 64), (4096, 128), (16384, 256)],
    "cuda": [(1024, 9), (576, 16), (1024, 64), (4096, 128), (16384, 256), (262144, 64), (32768, 512)],
}
# 8 x 8 heads of 50 words, 2 x 8 heads of 128, and a vocabulary.
SHAPES_OF_MEMBERS = {"cpu": [(3200, 50), (2048, 128), (256, 4096)], "cuda": [(262144, 64), (32768, 512), (4096, 4096)]}
GAMMA, LAM = 1.0, 0.1

Operator = Callable[[Tensor, Tensor | None], Tensor]


class RowByRow(torch.autograd.Function):
    """
    fusedmax and oscarmax as in the code published with the paper: for each row in turn, the proximal operator
    (compiled, there as here), the projection on the simplex by sorting, and for the gradient means over groups.
    """

    @staticmethod
    def forward(ctx, scores: Tensor, mask: Tensor | None, proximal_operator: Callable) -> Tensor:
        lengths = [scores.size(1)] * scores.size(0) if mask is None else mask.sum(1).tolist()
        weights = torch.zeros_like(scores)
        for row, (all_scores, length) in enumerate(zip(scores.detach().numpy(), lengths, strict=True)):
            values = proximal_operator(all_scores[:length] / GAMMA)
            weights[row, :length] = torch.from_numpy(project_on_simplex(values))
        ctx.save_for_backward(weights)
        return weights

    @staticmethod
    def backward(ctx, upstream: Tensor) -> tuple:
        (weights,) = ctx.saved_tensors
        gradient = torch.zeros_like(upstream)
        for row, (row_weights, row_upstream) in enumerate(zip(weights.numpy(), upstream.numpy(), strict=True)):
            support = row_weights > 0
            centred = row_upstream[support] - row_upstream[support].mean()
            _, groups = np.unique(row_weights[support], return_inverse=True)
            means = np.bincount(groups, centred) / np.bincount(groups)
            gradient[row, torch.from_numpy(support)] = torch.from_numpy(means[groups] / GAMMA).to(gradient.dtype)
        return gradient, None, None


class Copy(torch.autograd.Function):
    """The least that an operator costs whose derivative is written in Python."""

    @staticmethod
    def forward(ctx, scores: Tensor) -> Tensor:
        return scores.clone()

    @staticmethod
    def backward(ctx, upstream: Tensor) -> Tensor:
        return upstream.clone()


def project_on_simplex(values: np.ndarray) -> np.ndarray:
    decreasing = np.sort(values)[::-1]
    sums = np.cumsum(decreasing) - 1
    is_supported = decreasing - sums / np.arange(1, len(values) + 1) > 0
    return np.maximum(values - sums[is_supported][-1] / is_supported.sum(), 0)


def proximal_total_variation(values: np.ndarray) -> np.ndarray:
    solution = values.astype(np.float64)
    scratch = np.empty((2, len(values))), np.empty((3, 2 * len(values)))
    cpu._fuse(solution, 0, len(values), LAM, np.empty(len(values), np.int64), *scratch[0], scratch[1])
    return solution


def proximal_oscar(values: np.ndarray) -> np.ndarray:
    order = np.argsort(-values, kind="stable")
    sums, ends = np.empty(len(values)), np.empty(len(values), np.int64)
    num_groups = cpu._group(-values[order], len(values), float(values[order[0]]), 1.0, LAM, sums, ends)
    sizes = np.diff(ends[:num_groups], prepend=0)
    solution = np.empty(len(values))
    solution[order] = np.repeat(sums[:num_groups] / sizes, sizes)
    return solution


def masked(operator: Callable[[Tensor], Tensor]) -> Operator:
    """What users of an operator without masks write."""
    return lambda scores, mask: operator(scores if mask is None else scores.masked_fill(~mask, -1e9))


def operators_to_time(device: str) -> dict[str, Operator]:
    operators: dict[str, Operator] = {"torch.softmax": masked(lambda scores: torch.softmax(scores, -1))}
    if device == "cpu":
        operators["a copy, in Python"] = lambda scores, mask: Copy.apply(scores)
    if entmax is not None:
        operators["entmax.sparsemax"] = masked(lambda scores: entmax.sparsemax(scores, -1))
    operators["softmax"] = lambda scores, mask: regattn_allennlp.softmax(scores, mask, gamma=GAMMA)
    operators["sparsemax"] = lambda scores, mask: regattn_allennlp.sparsemax(scores, mask, gamma=GAMMA)
    operators["fusedmax"] = lambda scores, mask: regattn_allennlp.fusedmax(scores, mask, gamma=GAMMA, lam=LAM)
    operators["oscarmax"] = lambda scores, mask: regattn_allennlp.oscarmax(scores, mask, gamma=GAMMA, lam=LAM)
    if device == "cpu":
        operators["fusedmax, row by row"] = lambda *row: RowByRow.apply(*row, proximal_total_variation)
        operators["oscarmax, row by row"] = lambda *row: RowByRow.apply(*row, proximal_oscar)
    return operators


def members_to_time() -> dict[str, tuple[Operator, str | None]]:
    """Each with the name of what it is compared with."""
    operators: dict[str, tuple[Operator, str | None]] = {}

    def add_peer(name: str, peer: Callable[[Tensor], Tensor]) -> None:
        if entmax is not None:
            operators[f"entmax.{name}"] = masked(peer), None

    def add(name: str, operator: Operator, reference: str) -> None:
        known = reference in operators or not reference.startswith("entmax.")
        operators[name] = operator, reference if known else None

    for alpha in (1.25, 1.3, 1.5, 3.0):
        add_peer(f"entmax_bisect({alpha})", lambda scores, alpha=alpha: entmax.entmax_bisect(scores, alpha, n_iter=50))
        add(f"entmax({alpha})", regattn_allennlp.Entmax(alpha=alpha), f"entmax.entmax_bisect({alpha})")
    add_peer("entmax15", lambda scores: entmax.entmax15(scores, -1))
    add("entmax(1.5), again", regattn_allennlp.Entmax(alpha=1.5), "entmax.entmax15")
    learned = regattn_allennlp.Entmax(alpha=1.3, learn_alpha=True)
    add_peer("entmax_bisect(learned)", lambda scores: entmax.entmax_bisect(scores, learned.alpha, n_iter=50))
    add("entmax(learned, at 1.3)", learned, "entmax.entmax_bisect(learned)")
    add("the same", learned, "entmax(1.3)")
    add("squared_p_norm_max(1.5)", regattn_allennlp.SquaredPNormMax(exponent=1.5), "entmax.entmax_bisect(1.5)")
    add_peer("normmax_bisect(2)", lambda scores: entmax.normmax_bisect(scores, 2.0, n_iter=50))
    add("normmax(2)", regattn_allennlp.Normmax(exponent=2.0), "entmax.normmax_bisect(2)")
    add_peer("budget_bisect(2)", lambda scores: entmax.budget_bisect(scores, 2.0, n_iter=50))
    add(
        "constrained_sparsemax(budget=2)", regattn_allennlp.ConstrainedSparsemax(budget=2.0), "entmax.budget_bisect(2)"
    )
    add_peer("sparsemax", lambda scores: entmax.sparsemax(scores, -1))
    add("top_k_sparsemax(8)", regattn_allennlp.TopKSparsemax(top_k=8), "entmax.sparsemax")
    for kind in (regattn_allennlp.Sparsemax, regattn_allennlp.Fusedmax, regattn_allennlp.Oscarmax):
        name, operator = kind.__name__.lower(), kind()
        add(name, operator, "entmax.sparsemax")
        add(f"{name}, value", operator.value, name)
        if operator.shape_parameter == "lam":
            add(f"{name}, learned lam", kind(learn_lam=True), name)
        add(f"{name}, learned gamma", kind(learn_gamma=True), name)
    return operators


def time_calls(operator: Operator, scores: Tensor, mask: Tensor | None, upstream: Tensor, num_calls: int) -> float:
    """Seconds for the weights and their gradient, the mean of so many calls in a row."""
    if scores.is_cuda:
        torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(num_calls):
        result = operator(scores, mask)
        result.backward(upstream if result.shape == upstream.shape else upstream[..., 0])
        scores.grad = None
    if scores.is_cuda:
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / num_calls


def time_all(
    shape: tuple[int, int],
    with_mask: bool,
    device: str,
    dtype: torch.dtype,
    seconds_per_operator: float,
    operators: dict[str, Operator],
) -> dict[str, list[float]]:
    """For each operator its times, one a round. An operator that is too slow for so many rounds sits some out."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(shape, generator=generator).to(device, dtype).requires_grad_()
    upstream = torch.randn(shape, generator=generator).to(device, dtype)
    mask = None
    if with_mask:  # padding at the end, as in a batch of sentences: on average a quarter
        lengths = torch.randint(shape[1] // 2, shape[1] + 1, (shape[0], 1), generator=generator)
        mask = (torch.arange(shape[1]) < lengths).to(device)
    turns = {}
    for name, operator in operators.items():
        time_calls(operator, scores, mask, upstream, 1)  # compiles
        once = time_calls(operator, scores, mask, upstream, 1)
        num_calls = max(1, min(20, int(0.01 / once)))
        turns[name] = num_calls, max(3, min(100, int(seconds_per_operator / (once * num_calls))))
    times: dict[str, list[float]] = {name: [] for name in operators}
    for round_number in range(max(num_rounds for _, num_rounds in turns.values())):
        for name, operator in operators.items():
            num_calls, num_rounds = turns[name]
            if round_number < num_rounds:
                times[name].append(time_calls(operator, scores, mask, upstream, num_calls))
    return times


def median_ratio(times: list[float], reference: list[float]) -> float:
    return statistics.median(own / other for own, other in zip(times, reference, strict=False))


def print_table(title: str, results: dict[tuple, dict[str, list[float]]], cell: Callable) -> None:
    names = list(next(iter(results.values())))
    print(f"| {title} | mask | {' | '.join(names)} |")
    print("| --- " * (2 + len(names)) + "|")
    for ((rows, length), with_mask), times in results.items():
        cells = [cell(times[name], times) for name in names]
        print(f"| {rows} x {length} | {'yes' if with_mask else 'no'} | {' | '.join(cells)} |")
    print()


def print_members(shapes: list[tuple[int, int]], device: str, dtype: torch.dtype, seconds: float) -> None:
    members = members_to_time()
    operators = {name: operator for name, (operator, _) in members.items()}
    if device == "cuda":
        for operator in operators.values():
            if isinstance(operator, torch.nn.Module):
                operator.to(device)
    times = {}
    for shape in shapes:
        print(f"{shape}", file=sys.stderr)
        times[shape] = time_all(shape, False, device, dtype, seconds, operators)
    titles = [f"{rows} x {length}" for rows, length in shapes]
    print(f"| milliseconds, median | {' | '.join(titles)} | compared with | {' | '.join(titles)} |")
    print("| --- " * (2 + 2 * len(shapes)) + "|")
    for name, (_, reference) in members.items():
        cells = [f"{statistics.median(own[name]) * 1000:.2f}" for own in times.values()]
        ratios = [
            "" if reference is None else f"{median_ratio(own[name], own[reference]):.2f}" for own in times.values()
        ]
        print(f"| {' | '.join([name, *cells, reference or '', *ratios])} |")


def draw(results: dict[tuple, dict[str, list[float]]], path: Path) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7.5, 3.8))
    unmasked = {shape: times for (shape, with_mask), times in results.items() if not with_mask}
    marks = {"torch": ":", "copy": ":", "entmax": "--", "row": "-."}
    for name in next(iter(unmasked.values())):
        style = next((mark for word, mark in marks.items() if word in name), "-")
        ratios = [median_ratio(times[name], times["torch.softmax"]) for times in unmasked.values()]
        axes.plot(range(len(unmasked)), ratios, style, marker="o", markersize=4, label=name)
    axes.set_xticks(range(len(unmasked)), [f"{rows} x {length}" for rows, length in unmasked])
    axes.set_yscale("log")
    axes.set_xlabel("rows x length")
    axes.set_ylabel("time, torch.softmax = 1")
    axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize=8, bbox_to_anchor=(1.01, 1), loc="upper left")
    figure.savefig(path, dpi=150, bbox_inches="tight")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=list(SHAPES), default="cpu")
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float64"], default="float32")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each operator and shape (default: 2)")
    parser.add_argument("--members", action="store_true", help="time the others, each beside its peer")
    parser.add_argument("--plot", type=Path, help="draw the ratios to this file (needs matplotlib)")
    arguments = parser.parse_args()

    processor = torch.cuda.get_device_name() if arguments.device == "cuda" else platform.machine()
    print(
        f"{processor}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}, "
        f"Python {platform.python_version()}, {arguments.dtype}, gamma {GAMMA}, lam {LAM}; forward and backward\n"
    )
    if arguments.members:
        dtype = getattr(torch, arguments.dtype)
        print_members(SHAPES_OF_MEMBERS[arguments.device], arguments.device, dtype, arguments.seconds)
        return
    results = {}
    for shape in SHAPES[arguments.device]:
        for with_mask in (False, True):
            print(f"{shape}, {'with' if with_mask else 'without'} mask", file=sys.stderr)
            results[shape, with_mask] = time_all(
                shape,
                with_mask,
                arguments.device,
                getattr(torch, arguments.dtype),
                arguments.seconds,
                operators_to_time(arguments.device),
            )
    print_table("milliseconds, median", results, lambda own, _: f"{statistics.median(own) * 1000:.3f}")
    for reference in ("torch.softmax", "entmax.sparsemax"):
        if reference in next(iter(results.values())):
            print_table(
                f"time / {reference}",
                results,
                lambda own, times, reference=reference: f"{median_ratio(own, times[reference]):.2f}",
            )
    if arguments.plot:
        draw(results, arguments.plot)


if __name__ == "__main__":
    main()
