"""
Checks and measures the operators on a GPU: how exact their kernels are, how long they take, with the host's part and
without, how much memory, whether CUDA graphs capture them, what packed rows gain, and where the slowest spends its
time.

    python benchmarks/gpu.py OUT

writes OUT/gpu.md, a page of tables, and OUT/gpu.json, anew after each part. It takes at most the time it is given. A
part that fails is recorded, the others go on, and the exit status is 1. Needs PyTorch, Triton, numba and numpy alone;
entmax.sparsemax is timed beside them where the entmax package is installed.
`--device cpu --tiny` tries the whole program without a GPU, with the kernels in Triton's interpreter.
"""

import argparse
import json
import math
import multiprocessing
import os
import platform
import shlex
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch
from operators import GAMMA, LAM, Operator, entmax, median_ratio, time_all, time_calls
from torch import Tensor

import regattn_allennlp
from regattn_allennlp.operators.kernels import cpu

SHAPES = [(262144, 64), (32768, 512), (4096, 4096), (512, 32000)]
TINY_SHAPES = [(6, 5), (3, 20)]

# What errors may be, absolutely.
TOLERANCES = {torch.float64: 1e-10, torch.float32: 5e-6, torch.bfloat16: 2e-2}

# On both sides of what kernels do in different ways; the last is too long for one tile.
LENGTHS = [7, 64, 700, 9000]
TINY_LENGTHS = [5]


# Of the time that is left when it begins, what a part may take at most, so that every part gets its turn.
SHARES = {"Exactness": 0.5, "Compilation": 0.3, "Time": 0.45, "Time on the device": 0.4}


class Kernels(NamedTuple):
    """An operator's kernels, called alike: with `numbers`, one for each row, and the offsets of packed rows or ()."""

    solve: Callable[[ModuleType, Tensor, Tensor | None, Tensor, tuple], Any]
    multiply: Callable[[ModuleType, Tensor, Tensor, Tensor, tuple], Tensor]
    name: str  # of the function that solves


def with_lam(name: str, by_row: bool) -> Kernels:
    def solve(kernels, scores, mask, numbers, offsets):
        by_lam = (0.0, numbers.flatten()) if by_row else (LAM, None)
        return getattr(kernels, f"{name}_rows")(scores, mask, GAMMA, *by_lam, *offsets)

    def multiply(kernels, vector, blocks, numbers, offsets):
        return kernels.block_jacobian_rows(vector, blocks, GAMMA, *offsets)

    return Kernels(solve, multiply, f"{name}_rows")


def with_alpha(alpha: float | None) -> Kernels:
    """By one alpha, or by one for each row: half of them below 2."""

    def by_alpha(numbers):
        return (alpha, None) if alpha is not None else (0.0, 1 + 2 * numbers.flatten())

    def solve(kernels, scores, mask, numbers, offsets):
        may_exceed_2 = alpha is None or alpha > 2
        return kernels.entmax_rows(scores, mask, GAMMA, *by_alpha(numbers), may_exceed_2, *offsets)

    def multiply(kernels, vector, weights, numbers, offsets):
        return kernels.entmax_jacobian_rows(vector, weights, *by_alpha(numbers), *offsets)

    return Kernels(solve, multiply, "entmax_rows")


def with_norm(name: str, jacobian: str, exponent: float) -> Kernels:
    def solve(kernels, scores, mask, numbers, offsets):
        return getattr(kernels, f"{name}_rows")(scores, mask, GAMMA, exponent, *offsets)

    def multiply(kernels, vector, weights, numbers, offsets):
        return getattr(kernels, f"{jacobian}_rows")(vector, weights, exponent, *offsets)

    return Kernels(solve, multiply, f"{name}_rows")


KERNELS = {
    "sparsemax": Kernels(
        lambda kernels, scores, mask, numbers, offsets: kernels.sparsemax_rows(scores, mask, GAMMA, *offsets),
        lambda kernels, vector, weights, numbers, offsets: kernels.support_jacobian_rows(
            vector, weights, GAMMA, *offsets
        ),
        "sparsemax_rows",
    ),
    "fusedmax": with_lam("fusedmax", False),
    "fusedmax, lam by row": with_lam("fusedmax", True),
    "oscarmax": with_lam("oscarmax", False),
    "oscarmax, lam by row": with_lam("oscarmax", True),
    **{f"entmax {alpha}": with_alpha(alpha) for alpha in (1.0, 1.25, 1.5, 2.0, 3.0)},
    "entmax, alpha by row": with_alpha(None),
    "squared p-norm max": with_norm("squared_p_norm_max", "squared_p_norm_jacobian", 1.5),
    "normmax": with_norm("normmax", "normmax_jacobian", 2.0),
}


def gpu_kernels() -> ModuleType:
    """Imported late: what Triton is to compile for, it is told before."""
    from regattn_allennlp.operators.kernels import gpu

    return gpu


def operators_to_time(device: str) -> dict[str, Operator]:
    def by(name: str, **parameters: float) -> Operator:
        return lambda scores, mask: getattr(regattn_allennlp, name)(scores, mask, gamma=GAMMA, **parameters)

    learned = regattn_allennlp.Entmax(gamma=GAMMA, alpha=1.25, learn_alpha=True).to(device)
    return {
        "torch.softmax": lambda scores, mask: torch.softmax(scores, -1),
        **({} if entmax is None else {"entmax.sparsemax": lambda scores, mask: entmax.sparsemax(scores, -1)}),
        "softmax": by("softmax"),
        "sparsemax": by("sparsemax"),
        "fusedmax": by("fusedmax", lam=LAM),
        "oscarmax": by("oscarmax", lam=LAM),
        "entmax 1.25": by("entmax", alpha=1.25),
        "entmax 1.5": by("entmax", alpha=1.5),
        "entmax 3": by("entmax", alpha=3.0),
        "entmax, learned alpha": lambda scores, mask: learned(scores, mask),
        "squared p-norm max": by("squared_p_norm_max", exponent=1.5),
        "normmax": by("normmax", exponent=2.0),
    }


class Run:
    """What the parts are told, and where they report."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.device: str = arguments.device
        self.tiny: bool = arguments.tiny
        self.jobs: int = arguments.jobs or (min(16, os.cpu_count() or 1) if arguments.device == "cuda" else 1)
        self.folder: Path = arguments.out
        self.end = time.monotonic() + arguments.seconds
        self.end_of_part = self.end
        self.shapes = TINY_SHAPES if self.tiny else SHAPES
        self.dtypes = [torch.float32] if self.tiny else [torch.float32, torch.bfloat16]
        self.slowest: str | None = None
        import triton

        card = torch.cuda.get_device_name() if self.device == "cuda" else f"no GPU ({platform.machine()})"
        self.versions = {"card": card, "torch": torch.__version__, "triton": triton.__version__}
        command = shlex.join(["python", *sys.argv])
        self.lines = [f"{card}, PyTorch {torch.__version__}, Triton {triton.__version__}; `{command}`", ""]
        self.parts: dict[str, dict[str, Any]] = {}

    def seconds_left(self) -> float:
        return self.end - time.monotonic()

    def part_is_over(self) -> bool:
        return time.monotonic() >= self.end_of_part

    def write(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "gpu.md").write_text("\n".join(self.lines) + "\n")
        results = {**self.versions, "parts": self.parts}
        (self.folder / "gpu.json").write_text(json.dumps(results, indent=1) + "\n")

    def do(self, title: str, part: Callable[["Run", dict[str, Any]], Iterator[str]], needs_cuda: bool) -> None:
        """Run a part, which yields lines and fills in what it found."""
        print(f"{title} ({self.seconds_left():.0f} s left)", file=sys.stderr)
        self.end_of_part = time.monotonic() + SHARES.get(title, 1.0) * self.seconds_left()
        found: dict[str, Any] = {}
        self.parts[title] = found
        self.lines += [f"### {title}", ""]
        try:
            if needs_cuda and self.device != "cuda":
                found["skipped"] = "needs CUDA"
            elif self.seconds_left() <= 0:
                found["skipped"] = "no time was left"
            else:
                for line in part(self, found):
                    self.lines.append(line)
                    self.write()
        except Exception as error:
            traceback.print_exc()
            found["error"] = f"{type(error).__name__}: {error}".splitlines()[0]
        for kind in ("skipped", "error"):
            if kind in found:
                self.lines.append(f"{kind.capitalize()}: {found[kind]}")
        self.lines.append("")
        self.write()

    def failed(self) -> bool:
        return any("error" in found for found in self.parts.values())


def shape_of(matrix: tuple[int, int]) -> str:
    return f"{matrix[0]} x {matrix[1]}"


def name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


# --- how exact ---


class Check(NamedTuple):
    kernels: str
    dtype: torch.dtype
    length: int | None  # of the rows of a matrix; None for packed rows
    device: str
    tiny: bool

    def title(self) -> str:
        return f"rows of {self.length}" if self.length else "packed rows"


def problem(check: Check) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
    """Scores, a third of them ties; a mask; a number from 0 to 1 for each row; a vector; offsets of packed rows."""
    generator = torch.Generator().manual_seed(0)
    if check.length is None:
        lengths = torch.tensor([2, 0, 17] if check.tiny else [3, 0, 1, 16, 17, 129, 1000, 1025, 9000, 0, 5] * 2)
        offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
        shape, num_numbers = (2, int(offsets[-1])), (2, len(lengths))
    else:
        offsets, shape = None, (2 if check.tiny else 37, check.length)
        num_numbers = (shape[0], 1)
    scores = torch.randn(shape, generator=generator)
    scores[:, ::3] = scores[:, ::3].round()
    mask = torch.rand(shape, generator=generator) < 0.9
    vector = torch.randn(shape, generator=generator)
    dtype = torch.float64 if check.dtype == torch.float64 else torch.float32
    numbers = torch.rand(num_numbers, generator=generator).to(dtype)
    return scores.to(check.dtype), mask, numbers, vector.to(check.dtype), offsets


def row_by_row(function: Callable, offsets: Tensor, numbers: Tensor, *matrices: Tensor) -> Any:
    """The function's results for packed rows, by matrices of rows that are equally long."""
    results = []
    for row, (start, end) in enumerate(zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)):
        if start < end:
            pieces = [matrix[:, start:end].contiguous() for matrix in matrices]
            results.append(function(*pieces, numbers[:, row : row + 1].contiguous(), ()))
    if isinstance(results[0], Tensor):
        return torch.cat(results, dim=1)
    return tuple(torch.cat(parts, dim=1) for parts in zip(*results, strict=True))


def largest_errors(check: Check) -> tuple[float, float]:
    """Of the weights, and of the Jacobian's product with the vector, relative to its largest entry."""
    kernels = KERNELS[check.kernels]
    scores, mask, numbers, vector, offsets = problem(check)

    def solve(*arguments: Any) -> Any:
        return kernels.solve(cpu, *arguments)

    def multiply(*arguments: Any) -> Tensor:
        return kernels.multiply(cpu, *arguments)

    on_device = [tensor.to(check.device) for tensor in (scores, mask, numbers)]
    on_device_offsets = () if offsets is None else (offsets.to(check.device),)
    solution = kernels.solve(gpu_kernels(), *on_device, on_device_offsets)
    weights = solution if isinstance(solution, Tensor) else solution[0]
    # Both multiply with the CPU's solution: rounding may part what is equal.
    if offsets is None:
        expected = solve(scores, mask, numbers, ())
    else:
        expected = row_by_row(solve, offsets, numbers, scores, mask)
    expected_weights, structure = (expected, expected) if isinstance(expected, Tensor) else expected
    product = kernels.multiply(
        gpu_kernels(), vector.to(check.device), structure.to(check.device), on_device[2], on_device_offsets
    )
    if offsets is None:
        expected_product = multiply(vector, structure, numbers, ())
    else:
        expected_product = row_by_row(multiply, offsets, numbers, vector, structure)
    size = expected_product.double().abs().max().clamp(min=1)
    errors = weights.cpu().double() - expected_weights.double(), (product.cpu() - expected_product).double() / size
    return tuple(float(error.abs().max()) for error in errors)  # type: ignore[return-value]


def outcome(task: tuple[Callable, tuple]) -> Any:
    """What the function returns, or the first line of its error: for another process."""
    function, arguments = task
    try:
        return function(*arguments)
    except Exception as error:
        return f"{type(error).__name__}: {error}".splitlines()[0]


def in_parallel(run: Run, tasks: list[tuple[Callable, tuple]]) -> Iterator[Any]:
    """The tasks' outcomes, as far as they are there when the part is over. Most of its time is spent in compiling."""
    if run.jobs < 2:
        for task in tasks:
            yield "skipped: no time was left" if run.part_is_over() else outcome(task)
        return
    with multiprocessing.get_context("spawn").Pool(run.jobs) as pool:
        pending = [pool.apply_async(outcome, (task,)) for task in tasks]
        for result in pending:
            try:
                yield result.get(timeout=max(0.0, run.end_of_part - time.monotonic()))
            except multiprocessing.TimeoutError:
                yield "skipped: no time was left"


def exactness(run: Run, found: dict[str, Any]) -> Iterator[str]:
    names = [name for name, kernels in KERNELS.items() if hasattr(cpu, kernels.name)]
    if len(names) < len(KERNELS):
        yield f"Without kernels for the CPU, and so not compared: {', '.join(KERNELS.keys() - set(names))}.\n"
    dtypes = [torch.float32] if run.tiny else list(TOLERANCES)
    lengths = [*(TINY_LENGTHS if run.tiny else LENGTHS), None]
    checks = [
        Check(name, dtype, length, run.device, run.tiny) for length in lengths for dtype in dtypes for name in names
    ]
    errors: dict[tuple[str, torch.dtype], list[tuple[float, float]]] = {}
    complaints = []
    # Those begin first that take longest to compile: of packed rows, then of the longest.
    started = sorted(checks, key=lambda check: -(check.length or math.inf))
    outcomes = in_parallel(run, [(largest_errors, (check,)) for check in started])
    results = dict(zip(started, outcomes, strict=True))
    for check in checks:
        result = results[check]
        label = f"{check.kernels}, {name_of(check.dtype)}, {check.title()}"
        if isinstance(result, str):
            complaints.append(f"{label}: {result}")
            continue
        errors.setdefault((check.kernels, check.dtype), []).append(result)
        found[label] = result
        if not max(result) <= TOLERANCES[check.dtype]:
            complaints.append(f"{label}: {max(result):.1e}")
    yield f"Largest error against the kernels for the CPU, for rows of {lengths[:-1]} positions and packed rows:\n"
    yield f"| weights / product with the Jacobian | {' | '.join(map(name_of, dtypes))} |"
    yield "| --- " * (1 + len(dtypes)) + "|"
    for name in names:
        cells = [
            " / ".join(f"{max(column):.0e}" for column in zip(*errors[name, dtype], strict=True))
            if (name, dtype) in errors
            else ""
            for dtype in dtypes
        ]
        yield f"| {name} | {' | '.join(cells)} |"
    yield from ["", *(f"- {complaint}" for complaint in complaints)]
    wrong = [complaint for complaint in complaints if "skipped: " not in complaint]
    if wrong:
        raise AssertionError(f"{len(wrong)} of {len(checks)} checks failed, {wrong[0]}")


# --- how fast ---


def run_once(name: str, shape: tuple[int, int], dtype: torch.dtype, device: str) -> None:
    scores = torch.randn(shape, device=device).to(dtype).requires_grad_()
    time_calls(operators_to_time(device)[name], scores, None, torch.randn_like(scores), 1)


def compilation(run: Run, found: dict[str, Any]) -> Iterator[str]:
    """Few rows are enough for that: the kernels do not depend on their number."""
    names = list(operators_to_time(run.device))
    tasks = [
        (run_once, (name, (16, length), dtype, run.device))
        for _, length in run.shapes
        for dtype in run.dtypes
        for name in names
    ]
    start = time.monotonic()
    complaints = [result for result in in_parallel(run, tasks) if result]  # type: ignore[var-annotated]
    found["seconds"] = time.monotonic() - start
    yield f"{len(tasks)} operators, shapes and dtypes: {found['seconds']:.0f} s in {run.jobs} processes"
    yield from ["", *(f"- {complaint}" for complaint in complaints)]


# By name of the operator: seconds, and how many times those of torch.softmax.
Times = dict[str, tuple[float, float]]


def tables(kind: str, names: list[str], rows: dict[str, Times]) -> Iterator[str]:
    for number, (title, cell) in enumerate([("ms", "{:.3f}"), ("/ torch.softmax", "{:.2f}")]):
        yield f"| {title}, {kind} | {' | '.join(names)} |"
        yield "| --- " * (1 + len(names)) + "|"
        for shape, row in rows.items():
            figures = [(row[name][0] * 1000, row[name][1]) if name in row else None for name in names]
            yield f"| {shape} | {' | '.join('' if pair is None else cell.format(pair[number]) for pair in figures)} |"
        yield ""


def times(run: Run, found: dict[str, Any]) -> Iterator[str]:
    yield "Median time of calls one after another; where a problem is small, that is the host's time:\n"
    operators = operators_to_time(run.device)
    num_left = len(run.dtypes) * len(run.shapes)
    for dtype in run.dtypes:
        rows: dict[str, Times] = {}
        for shape in run.shapes:
            case = f"{shape_of(shape)}, {name_of(dtype)}"
            seconds = (run.end_of_part - time.monotonic()) / num_left
            num_left -= 1
            if seconds < (0 if run.tiny else 2):
                yield f"- {case}: skipped, no time was left"
                continue
            runnable = {}
            for name, operator in operators.items():
                result = outcome((run_once, (name, shape, dtype, run.device)))
                if result is None:
                    runnable[name] = operator
                else:
                    found["error"] = f"{name}, {case}: {result}"
                    yield f"- {found['error']}"
            # An operator gets what is left after its first calls.
            seconds_each = 0.01 if run.tiny else min(1.0, seconds / 2 / len(runnable))
            measured = time_all(shape, False, run.device, dtype, seconds_each, runnable)
            reference = measured["torch.softmax"]
            rows[shape_of(shape)] = {
                name: (statistics.median(own), median_ratio(own, reference)) for name, own in measured.items()
            }
            found[case] = {name: own for name, (own, _) in rows[shape_of(shape)].items()}
            if run.slowest is None and shape == run.shapes[1]:
                run.slowest = max(found[case], key=found[case].get)
        yield ""
        yield from tables(name_of(dtype), list(operators), rows)


def capture(step: Callable[[], Any]) -> tuple[torch.cuda.CUDAGraph, Any]:
    """A CUDA graph of the step, and what the step returned, which each replay fills in anew."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step()  # compiles
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    return graph, captured


def seconds_on_device(operator: Operator, shape: tuple[int, int], dtype: torch.dtype) -> float:
    """The median of replays of a CUDA graph of the weights and their gradient."""
    scores = torch.randn(shape, device="cuda").to(dtype).requires_grad_()
    upstream = torch.randn_like(scores)
    graph, _ = capture(lambda: torch.autograd.grad(operator(scores, None), scores, upstream))
    num_replays, elapsed = 5, []
    for _ in range(6):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(num_replays):
            graph.replay()
        end.record()
        end.synchronize()
        elapsed.append(start.elapsed_time(end) / num_replays / 1000)
    return statistics.median(elapsed)


def times_on_device(run: Run, found: dict[str, Any]) -> Iterator[str]:
    yield "Median time of replays of a CUDA graph, in which the host has no part:\n"
    operators = operators_to_time(run.device)
    for dtype in run.dtypes:
        rows: dict[str, Times] = {}
        for shape in run.shapes:
            case = f"{shape_of(shape)}, {name_of(dtype)}"
            found[case] = {}
            for name, operator in operators.items():
                if run.part_is_over():
                    yield f"- {name}, {case}: skipped, no time was left"
                    continue
                if name in ("fusedmax", "oscarmax") and shape[1] > gpu_kernels().MAX_LENGTH:
                    yield f"- {name}, {case}: not captured, as the host looks at the result in each round"
                    continue
                result = outcome((seconds_on_device, (operator, shape, dtype)))
                if isinstance(result, str):
                    yield f"- {name}, {case}: not captured, {result}"
                else:
                    found[case][name] = result
            reference = found[case].get("torch.softmax", math.nan)
            rows[shape_of(shape)] = {name: (own, own / reference) for name, own in found[case].items()}
        yield ""
        yield from tables(name_of(dtype), list(operators), rows)


def memory(run: Run, found: dict[str, Any]) -> Iterator[str]:
    yield "Most memory allocated at a time, forward and backward, over that of the scores, which is not counted:\n"
    names = list(operators_to_time(run.device))
    yield f"| float32 | {' | '.join(names)} |"
    yield "| --- " * (1 + len(names)) + "|"
    for shape in run.shapes:
        cells = []
        for name in names:
            torch.cuda.empty_cache()
            scores = torch.randn(shape, device=run.device, requires_grad=True)
            upstream = torch.randn_like(scores)
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            time_calls(operators_to_time(run.device)[name], scores, None, upstream, 1)
            peak = (torch.cuda.max_memory_allocated() - before) / (scores.numel() * scores.element_size())
            found[f"{name}, {shape_of(shape)}"] = peak
            cells.append(f"{peak:.1f}")
        yield f"| {shape_of(shape)} | {' | '.join(cells)} |"


def graphs(run: Run, found: dict[str, Any]) -> Iterator[str]:
    complaints = []
    for name, operator in operators_to_time(run.device).items():
        scores = torch.randn(1000, 48, device=run.device, requires_grad=True)
        upstream = torch.randn_like(scores)

        def step(operator=operator, scores=scores, upstream=upstream) -> tuple[Tensor, Tensor]:
            weights = operator(scores, None)
            return weights.detach(), torch.autograd.grad(weights, scores, upstream)[0]

        try:
            graph, captured = capture(step)
            with torch.no_grad():
                scores.copy_(torch.randn_like(scores))
            graph.replay()
            torch.cuda.synchronize()
            same = all(torch.equal(got, expected) for got, expected in zip(captured, step(), strict=True))
            result = "as without a graph" if same else "differs"
        except Exception as error:
            result = f"{type(error).__name__}: {error}".splitlines()[0]
        found[name] = result
        if result != "as without a graph":
            complaints.append(name)
        yield f"- {name}: {result}"
    if complaints:
        raise AssertionError(f"not captured: {', '.join(complaints)}")


# --- packed rows ---


def packed(run: Run, found: dict[str, Any]) -> Iterator[str]:
    """Rows as long as a graph's nodes have neighbours: half of them of a few, and some of thousands."""
    generator = torch.Generator().manual_seed(0)
    num_rows, longest = (4, 12) if run.tiny else (50_000, 4000)
    lengths = (3 / torch.rand(num_rows, generator=generator) ** 0.8).long().clamp(max=longest)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)]).to(run.device)
    num_entries = int(offsets[-1])
    scores = torch.randn(1, num_entries, generator=generator).to(run.device)
    vector = torch.randn(1, num_entries, generator=generator).to(run.device)
    numbers = torch.rand(1, num_rows, generator=generator).to(run.device)
    inside = torch.arange(int(lengths.max())) < lengths.unsqueeze(1)
    padded = torch.full(inside.shape, -math.inf).masked_scatter(inside, scores.cpu()).to(run.device).requires_grad_()
    upstream = torch.zeros(inside.shape).masked_scatter(inside, vector.cpu()).to(run.device)
    gpu = gpu_kernels()

    def of_packed(kernels: Kernels) -> Callable[[], Any]:
        def step() -> None:
            solution = kernels.solve(gpu, scores, None, numbers, (offsets,))
            kernels.multiply(
                gpu, vector, solution if isinstance(solution, Tensor) else solution[1], numbers, (offsets,)
            )

        return step

    steps: dict[str, Callable[[], Any]] = {
        "torch.softmax, padded": lambda: torch.autograd.grad(torch.softmax(padded, -1), padded, upstream),
        **{f"{name}, packed": of_packed(kernels) for name, kernels in KERNELS.items()},
    }
    share = num_entries / inside.numel()
    yield f"{num_rows} rows of 3 to {int(lengths.max())} entries, {num_entries} in all, {share:.1%} of the padded:\n"
    yield "| | ms | most memory, MB |"
    yield "| --- | --- | --- |"
    for name, step in steps.items():
        if run.part_is_over():
            yield f"| {name} | skipped: no time was left | |"
            continue
        step()
        elapsed, peak = [], ""
        for _ in range(1 if run.tiny else 10):
            if run.device == "cuda":
                torch.cuda.synchronize()
                torch.cuda.reset_peak_memory_stats()
                before = torch.cuda.memory_allocated()
            start = time.perf_counter()
            step()
            if run.device == "cuda":
                torch.cuda.synchronize()
                peak = f"{(torch.cuda.max_memory_allocated() - before) / 1e6:.1f}"
            elapsed.append(time.perf_counter() - start)
        found[name] = {"seconds": statistics.median(elapsed), "megabytes": peak}
        yield f"| {name} | {statistics.median(elapsed) * 1000:.3f} | {peak} |"


def profile(run: Run, found: dict[str, Any]) -> Iterator[str]:
    name, shape = run.slowest or "fusedmax", run.shapes[1]
    run_once(name, shape, torch.float32, run.device)
    activities = [torch.profiler.ProfilerActivity.CPU]
    if run.device == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profiler:
        for _ in range(1 if run.tiny else 10):
            run_once(name, shape, torch.float32, run.device)
    by = "self_device_time_total" if run.device == "cuda" else "self_cpu_time_total"
    table = profiler.key_averages().table(sort_by=by, row_limit=15, max_name_column_width=50)
    found["operator"], found["table"] = name, table
    yield f"{name}, {shape_of(shape)}, float32, with making the scores:\n"
    yield from ["```", table.rstrip(), "```"]


PARTS = [
    ("Exactness", exactness, False),
    ("Compilation", compilation, False),
    ("Time", times, False),
    ("Time on the device", times_on_device, True),
    ("Memory", memory, True),
    ("CUDA graphs", graphs, True),
    ("Packed rows", packed, False),
    ("Profile", profile, False),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT", help="a folder")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--tiny", action="store_true", help="tiny problems, to try the program")
    parser.add_argument("--seconds", type=float, default=480, help="what no longer fits is left out (default: 480)")
    parser.add_argument("--jobs", type=int, help="processes that compile (default: up to 16; 1 without a GPU)")
    arguments = parser.parse_args()
    if arguments.device == "cpu":
        os.environ["TRITON_INTERPRET"] = "1"
    run = Run(arguments)
    for part in PARTS:
        run.do(*part)
    sys.exit(1 if run.failed() else 0)


if __name__ == "__main__":
    main()
