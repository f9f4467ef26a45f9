import warnings

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.image import imread

from regattn_allennlp.comparison.figures import (
    VariantFigures,
    draw_scores,
    draw_scores_against_sparsity,
    draw_sweep,
    draw_training_curves,
    wrapped,
)


def curve(accuracies, losses) -> list[dict]:
    return [
        {"epoch": epoch, "validation_accuracy": accuracy, "training_loss": loss, "best_epoch": 0}
        for epoch, (accuracy, loss) in enumerate(zip(accuracies, losses, strict=True))
    ]


VARIANTS = [
    VariantFigures(
        "fusedmax gamma=1, lam=0.1",
        scores=[0.7, 0.8, 0.75],
        zeros=[0.5, 0.6, 0.4],
        curves=[curve([0.5, 0.6, 0.7], [1.0, 0.8, 0.6]), curve([0.3, 0.5], [1.2, 1.0])],
    ),
    VariantFigures("softmax", scores=[0.6], zeros=[0.0], curves=[]),
]


def many(num_variants: int, name: str = "") -> list[VariantFigures]:
    random = np.random.default_rng(0)
    return [
        VariantFigures(
            name or f"oscarmax gamma={index / 10}, lam=0.1, learned",
            random.uniform(0.7, 0.8, 3).tolist(),
            random.uniform(0, 1, 3).tolist(),
            [curve(random.uniform(0.5, 0.8, 6), random.uniform(0.4, 1, 6)) for _ in range(3)],
        )
        for index in range(num_variants)
    ]


def bars(axes) -> list[list[tuple[float, float]]]:
    """From where to where each error bar goes, in data coordinates."""
    return [segment.tolist() for lines in axes.collections for segment in lines.get_segments()]


def legend_names(figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_accuracies_are_means_deviations_and_seeds(tmp_path):
    (axes,) = draw_scores(VARIANTS, "accuracy", tmp_path / "accuracies.png").axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["fusedmax gamma=1, lam=0.1", "softmax"]
    assert axes.yaxis_inverted()  # the first is above
    means = [line for line in axes.lines if line.get_marker() in ("o", "s") and len(line.get_xdata()) == 1]
    assert [(float(mean.get_xdata()[0]), int(mean.get_ydata()[0])) for mean in means] == [
        (pytest.approx(0.75), 0),
        (0.6, 1),
    ]
    # The standard deviation of 0.7, 0.75 and 0.8; one seed has none.
    assert np.array(bars(axes)) == pytest.approx(np.array([[[0.7, 0], [0.8, 0]]]))
    seeds = [list(line.get_xdata()) for line in axes.lines if line.get_marker() == "."]
    assert seeds == [[0.7, 0.8, 0.75], [0.6]]


def test_accuracy_and_sparsity_have_deviations_in_both_directions(tmp_path):
    figure = draw_scores_against_sparsity(VARIANTS, "accuracy", tmp_path / "sparsity.svg")
    (axes,) = figure.axes
    horizontal, vertical = np.array(bars(axes))
    assert horizontal == pytest.approx(np.array([[0.4, 0.75], [0.6, 0.75]]))
    assert vertical == pytest.approx(np.array([[0.5, 0.7], [0.5, 0.8]]))
    assert legend_names(figure) == ["fusedmax gamma=1, lam=0.1", "softmax"]
    assert axes.lines[-1].get_xydata().tolist() == [[0.0, 0.6]]


def test_training_curves_are_seeds_and_their_mean_while_all_train(tmp_path):
    figure = draw_training_curves(VARIANTS, "accuracy", tmp_path / "curves.png")
    drawn = [[line.get_xydata() for line in axes.lines] for axes in figure.axes]
    assert drawn[0][0] == pytest.approx(np.array([[0, 0.5], [1, 0.6], [2, 0.7]]))
    assert drawn[0][1] == pytest.approx(np.array([[0, 0.3], [1, 0.5]]))
    assert drawn[0][2] == pytest.approx(np.array([[0, 0.4], [1, 0.55]]))
    assert drawn[1][2] == pytest.approx(np.array([[0, 1.1], [1, 0.9]]))
    assert [axes.get_ylabel() for axes in figure.axes] == ["validation accuracy", "training loss"]
    assert legend_names(figure) == ["fusedmax gamma=1, lam=0.1"]


def test_a_sweep_is_a_curve_over_its_number(tmp_path):
    lines = {"fusedmax": [(0.1, VARIANTS[0]), (10, VARIANTS[1])]}
    scores, zeros = draw_sweep(lines, "lam", "accuracy", tmp_path / "sweep.png").axes
    assert scores.lines[0].get_xydata() == pytest.approx(np.array([[0.1, 0.75], [10, 0.6]]))
    assert zeros.lines[0].get_xydata() == pytest.approx(np.array([[0.1, 0.5], [10, 0]]))
    assert np.array(bars(scores))[0] == pytest.approx(np.array([[0.1, 0.7], [0.1, 0.8]]))
    assert (zeros.get_xlabel(), zeros.get_xscale()) == ("lam", "log")
    narrow = draw_sweep({"fusedmax": [(0, VARIANTS[0]), (1, VARIANTS[1])]}, "lam", "accuracy", tmp_path / "sweep.png")
    assert narrow.axes[0].get_xscale() == "linear"


def test_without_curves_no_figure_is_written(tmp_path):
    assert draw_training_curves(VARIANTS[1:], "accuracy", tmp_path / "curves.png") is None
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("draw", [draw_scores, draw_scores_against_sparsity, draw_training_curves])
@pytest.mark.parametrize(
    "num_variants, name",
    [(1, ""), (5, ""), (30, ""), (2, wrapped(f'softmax, {{"type": "{"variational" * 5}"}} and so on'))],
)
def test_any_number_of_variants_fits_in_the_picture(draw, num_variants, name, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns of a layout that does not fit
        figure = draw(many(num_variants, name), "accuracy", tmp_path / "figure.png")
    height, width = imread(tmp_path / "figure.png").shape[:2]
    assert (width, height) == pytest.approx(tuple(150 * figure.get_size_inches()), abs=1)
    # Nothing that is drawn, the legend too, is outside and cut off.
    drawn = figure.get_tightbbox()
    assert drawn.x0 >= 0 and drawn.y0 >= 0
    assert drawn.x1 <= figure.get_figwidth() and drawn.y1 <= figure.get_figheight()
    # The panels keep a third of the width.
    assert all(axes.get_window_extent().width > figure.bbox.width / 3 for axes in figure.axes)


def test_no_two_of_many_variants_look_alike(tmp_path):
    figure = draw_scores_against_sparsity(many(30), "accuracy", tmp_path / "figure.png")
    looks = {
        (to_hex(line.get_color()), line.get_marker(), line.get_linestyle()) for line in figure.legends[0].get_lines()
    }
    assert len(looks) == 30
