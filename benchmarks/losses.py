"""
Times losses of class indices over a vocabulary, forward and backward together, and measures their memory:
F.cross_entropy, the losses of softmax, sparsemax and entmax of this package, and those of the package entmax. All take
turns in one run; ratios are the medians of ratios round by round. Memory is what a call adds at its peak to the scores
that it is given, in a process for each.

    uv run --with entmax python benchmarks/losses.py

What is not installed is left out: this runs with PyTorch, numpy and numba alone. Memory is measured on Linux.
"""

import argparse
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from regattn_allennlp import Entmax, FenchelYoungLoss, Softmax, Sparsemax

try:
    import entmax
except ImportError:
    entmax = None

STATUS = Path("/proc/self/status")

Loss = Callable[[Tensor, Tensor], Tensor]


def losses_to_measure() -> dict[str, Loss]:
    losses: dict[str, Loss] = {
        "F.cross_entropy": cross_entropy,
        "Softmax": FenchelYoungLoss(Softmax()),
        "F.cross_entropy, smoothed": lambda scores, target: cross_entropy(scores, target, label_smoothing=0.1),
        "Softmax, smoothed": FenchelYoungLoss(Softmax(), label_smoothing=0.1),
        "Sparsemax": FenchelYoungLoss(Sparsemax()),
        "Entmax(1.5)": FenchelYoungLoss(Entmax(alpha=1.5)),
    }
    if entmax is not None:
        losses["entmax's SparsemaxLoss(k=64)"] = entmax.SparsemaxLoss(k=64)
        losses["entmax's Entmax15Loss(k=128)"] = entmax.Entmax15Loss(k=128)
    return losses


# Which loss each of ours is compared with.
REFERENCES = {
    "Softmax": "F.cross_entropy",
    "Softmax, smoothed": "F.cross_entropy, smoothed",
    "Sparsemax": "entmax's SparsemaxLoss(k=64)",
    "Entmax(1.5)": "entmax's Entmax15Loss(k=128)",
}


def problem(num_rows: int, num_classes: int, scale: float) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    scores = scale * torch.randn(num_rows, num_classes, generator=generator)
    return scores.requires_grad_(), torch.randint(num_classes, (num_rows,), generator=generator)


def run(loss: Loss, scores: Tensor, target: Tensor) -> None:
    scores.grad = None
    loss(scores, target).backward()


def time_all(scores: Tensor, target: Tensor, num_rounds: int) -> dict[str, list[float]]:
    """For each loss its seconds, one number a round."""
    losses = losses_to_measure()
    for loss in losses.values():
        run(loss, scores, target)  # compiles
    times: dict[str, list[float]] = {name: [] for name in losses}
    for _ in range(num_rounds):
        for name, loss in losses.items():
            start = time.perf_counter()
            run(loss, scores, target)
            times[name].append(time.perf_counter() - start)
    return times


def memory_of_this_process(key: str) -> int:
    """Bytes: at present ("VmRSS") or at its peak ("VmHWM")."""
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024


def print_peak(name: str, scores: Tensor, target: Tensor) -> None:
    """What one call adds to the memory of this process at its peak."""
    loss = losses_to_measure()[name]
    run(loss, *problem(2, 300, 1.0))  # compiles
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = memory_of_this_process("VmRSS")
    run(loss, scores, target)
    print(memory_of_this_process("VmHWM") - before)


def peak_in_a_process_of_its_own(name: str, options: list[str]) -> int:
    command = [sys.executable, __file__, "--peak-of", name, *options]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def ratio(own: list[float], reference: list[float]) -> float:
    return statistics.median(mine / other for mine, other in zip(own, reference, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--classes", type=int, default=32000)
    parser.add_argument("--scale", type=float, default=1.0, help="standard deviation of the scores (default: 1)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="numbers of threads (default: 1 2)")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--peak-of", help="print the bytes that this one loss needs, and nothing else")
    arguments = parser.parse_args()
    scores, target = problem(arguments.rows, arguments.classes, arguments.scale)
    if arguments.peak_of:
        torch.set_num_threads(1)
        print_peak(arguments.peak_of, scores, target)
        return

    print(
        f"{arguments.rows} x {arguments.classes}, float32, scores of standard deviation {arguments.scale}; "
        f"{platform.machine()}, PyTorch {torch.__version__}, Python {platform.python_version()}\n"
    )
    times = {}
    for num_threads in arguments.threads:
        torch.set_num_threads(num_threads)
        times[num_threads] = time_all(scores, target, arguments.rounds)
    options = [f"--{name}={getattr(arguments, name)}" for name in ("rows", "classes", "scale")]
    names = list(losses_to_measure())
    peaks = {name: peak_in_a_process_of_its_own(name, options) for name in names} if STATUS.exists() else {}

    threads = [f"{number} thread{'s' if number > 1 else ''}" for number in arguments.threads]
    headings = ["loss", *(f"ms, {number}" for number in threads), "MB", "compared with"]
    headings += [*(f"time, {number}" for number in threads), "memory"]
    print(f"| {' | '.join(headings)} |")
    print("| --- " * len(headings) + "|")
    for name in names:
        cells = [name, *(f"{1000 * statistics.median(of_all[name]):.0f}" for of_all in times.values())]
        cells.append(f"{peaks[name] / 1e6:.0f}" if peaks else "")
        reference = REFERENCES.get(name)
        if reference in names:
            cells += [reference, *(f"{ratio(of_all[name], of_all[reference]):.2f}" for of_all in times.values())]
            cells.append(f"{peaks[name] / peaks[reference]:.2f}" if peaks else "")
        else:
            cells += [""] * (2 + len(times))
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
