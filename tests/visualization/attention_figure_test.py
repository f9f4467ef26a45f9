"""The parts of a picture that `show-attention` has no test for: regions of an image, long titles, empty texts."""

from io import BytesIO
from itertools import combinations

import numpy as np
import pytest
from allennlp.common.checks import ConfigurationError
from matplotlib.colors import to_hex
from PIL import Image

from regattn_allennlp.visualization.attention_figure import GROUP_COLORS, attention_figure


def region_map(weights, boxes, names=None, groups=(), image=None) -> dict:
    return {
        "rows": ["What is left of the small red circle?"], "columns": names or [""] * len(boxes),
        "weights": [weights], "groups": [list(groups)], "boxes": boxes, "image": image,
        "rowTitle": "question", "columnTitle": "regions", "rightToLeft": False,
    }  # fmt: skip


BOXES = [[0.1, 0.1, 0.6, 0.5], [0.2, 0.2, 0.4, 0.3], [0.5, 0.6, 0.9, 0.9]]


def shades(axes) -> dict[tuple[float, ...], object]:
    """The filled rectangles by their boxes."""
    rectangles = [patch for patch in axes.patches if patch.get_fill()]
    return {
        tuple(
            round(float(edge), 6) for edge in (*r.get_xy(), r.get_x() + r.get_width(), r.get_y() + r.get_height())
        ): r
        for r in rectangles
    }


def test_regions_are_shaded_by_weight_and_groups_have_a_colour_each():
    boxes = [*BOXES, [0.0, 0.7, 0.2, 1.0], [0.7, 0.0, 1.0, 0.2]]
    weights = [0.3, 0.0, 0.3, 0.2, 0.2]
    (axes,) = attention_figure(["one"], [region_map(weights, boxes, groups=[[(0, 1), (2, 3)], [(3, 5)]])]).axes
    drawn = shades(axes)
    assert len(drawn) == 5
    regions = [drawn[tuple(box)] for box in boxes]
    assert [region.get_facecolor()[3] for region in regions] == pytest.approx([0.75 * weight for weight in weights])
    edges = [to_hex(region.get_edgecolor()) for region in regions]
    assert edges[0] == edges[2] == GROUP_COLORS[0] and edges[3] == edges[4] == GROUP_COLORS[1]
    assert edges[1] not in GROUP_COLORS
    assert regions[1].get_linewidth() < min(region.get_linewidth() for region in regions if region is not regions[1])
    # The small one within another is above it.
    order = list(axes.patches)
    assert order.index(regions[1]) > order.index(regions[0])
    assert axes.yaxis_inverted()
    assert sorted(text.get_text() for text in axes.texts) == [".20 4", ".20 5", ".30 1", ".30 3", "2"]


@pytest.mark.parametrize("number", [3, 36])
def test_labels_lie_in_the_picture_and_beside_each_other(number):
    random = np.random.default_rng(0)
    corners, sizes = random.random((number, 2)) * 0.8, random.random((number, 2)) * 0.2 + 0.02
    boxes = np.hstack([corners, corners + sizes]).tolist()
    names = [f"a rather long name of the region {index}" for index in range(number)]
    figure = attention_figure(["one"], [region_map(random.dirichlet(np.ones(number)).tolist(), boxes, names)])
    figure.canvas.draw()
    (axes,) = figure.axes
    extents = [text.get_window_extent() for text in axes.texts]
    assert len(extents) >= 3
    picture = axes.get_window_extent()
    for extent in extents:
        assert picture.x0 <= extent.x0 and extent.x1 <= picture.x1
        assert picture.y0 <= extent.y0 and extent.y1 <= picture.y1
    assert not any(one.overlaps(other) for one, other in combinations(extents, 2))
    # The most weighted is the last to go without its name.
    assert any(text.get_text().endswith("…") for text in axes.texts)


def test_the_image_is_below_the_regions_and_keeps_its_shape(tmp_path):
    Image.new("RGB", (64, 32), (10, 200, 30)).save(tmp_path / "image.png")
    figure = attention_figure(["one"], [region_map([1.0, 0, 0], BOXES, image=str(tmp_path / "image.png"))])
    (axes,) = figure.axes
    extent = axes.get_window_extent()
    assert extent.width / extent.height == pytest.approx(2)
    assert (axes.images[0].get_array()[0, 0] == [10, 200, 30]).all()
    with pytest.raises(ConfigurationError, match=r"no_such\.png"):
        attention_figure(["one"], [region_map([1.0, 0, 0], BOXES, image=str(tmp_path / "no_such.png"))])


def test_a_long_title_becomes_lines_and_is_cut():
    one = {
        "rows": ["a"], "columns": ["b"], "weights": [[1.0]], "groups": [[]], "rowTitle": "target",
        "columnTitle": "source", "rightToLeft": False,
    }  # fmt: skip
    figure = attention_figure(["name\n" + "many words of an answer " * 100], [one])
    lines = figure.axes[0].get_title().splitlines()
    assert lines[0] == "name" and len(lines) == 5 and lines[-1].endswith("…")
    figure.canvas.draw()
    assert figure.get_size_inches()[0] < 4


def words_map(rows, columns, **more) -> dict:
    given = {
        "rows": rows, "columns": columns, "weights": [[1.0] + [0.0] * (len(columns) - 1)] * len(rows),
        "groups": [[]] * len(rows), "rowTitle": "target", "columnTitle": "source", "rightToLeft": False,
    }  # fmt: skip
    return {**given, **more}


def legend_of(figure) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


@pytest.mark.parametrize("columns", [["a", "is", "of"], ["walking", "a", "dog"], ["ארוכות", "של", "כלב"]])
def test_a_dotted_line_runs_along_each_unknown_word(columns):
    right_to_left = columns[0][0] == "א"
    one = words_map(["one", "two"], columns, rightToLeft=right_to_left, unknownRows=[1], unknownColumns=[0, 2])
    figure = attention_figure(["name", "other"], [one, one])
    figure.set_dpi(144)  # the lines go with their words at any size
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    outside, inside = figure.axes[::-1] if right_to_left else figure.axes
    for axes, rows in (outside, [1]), (inside, []):
        lines = [line for line in axes.lines if line.get_linestyle() == "--"]
        labels = [axes.get_xticklabels()[column] for column in (0, 2)] + [axes.get_yticklabels()[row] for row in rows]
        assert len(lines) == len(labels)
        for line, label in zip(lines, labels, strict=True):
            ends = line.get_transform().transform(line.get_xydata())
            angle = np.degrees(np.arctan2(*(ends[1] - ends[0])[::-1]))
            assert (angle - label.get_rotation() + 180) % 360 - 180 == pytest.approx(0, abs=1)
            box = label.get_window_extent(renderer).padded(2)
            assert all(box.contains(*end) for end in ends)
            rotation = label.get_rotation()
            label.set_rotation(0)
            assert np.hypot(*(ends[1] - ends[0])) == pytest.approx(label.get_window_extent(renderer).width, rel=0.1)
            label.set_rotation(rotation)
    assert legend_of(figure) == ["blank: exactly 0", "unknown to the model"]


def test_the_heading_stands_above_and_the_legend_says_what_there_is():
    weights = [[0.498, 0.498, 0.004, 0.0], [0.25, 0.25, 0.25, 0.25]]
    groups = [[[(0, 2)]], [[(0, 1), (2, 3)], [(1, 2), (3, 4)]]]
    one = words_map(["one", "two"], list("abcd"), weights=weights, groups=groups)
    heading = {"premise": "a long sentence " * 30, "gold answer": "neutral"}
    figure = attention_figure(["name"], [one], heading)
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    (text,) = figure.texts
    assert text.get_text().startswith("premise: a long") and text.get_text().endswith("…\ngold answer: neutral")
    above, legend = text.get_window_extent(renderer), figure.legends[0].get_window_extent(renderer)
    maps = figure.axes[0].get_tightbbox(renderer)
    assert above.y0 > maps.y1 and maps.y0 > legend.y1 and legend.y0 >= 0
    for box in above, maps, legend:
        assert box.x0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1
    assert legend_of(figure) == ["blank: exactly 0", "below .005", "share one weight", "joins boxes of one group"]
    assert [text.get_text() for text in figure.axes[0].texts if text.get_text()[0] in ".·"] == [
        ".50", ".50", "·", ".25", ".25", ".25", ".25"
    ]  # fmt: skip
    # What is not there is not explained.
    assert legend_of(attention_figure(["name"], [words_map(["one"], ["a"])])) == []


def test_words_without_anything_to_see_have_a_name_and_any_format_holds_them():
    words = ["\ufeff", "a\u200bb", "\u200d", "x\ufffe", "\U000e0041"]
    figure = attention_figure(["a\ufefftitle"], [words_map(words, words)], {"source": "\ufeff" + " ".join(words)})
    labels = figure.axes[0].get_xticklabels(), figure.axes[0].get_yticklabels()
    for of_axis in labels:
        assert [label.get_text() for label in of_axis] == ["U+FEFF", "ab", "U+200D", "x", "U+E0041"]
    for suffix in ("pdf", "svg", "png"):
        figure.savefig(BytesIO(), format=suffix)


def test_a_text_without_words_is_an_empty_row():
    one = {
        "rows": [], "columns": ["b", "c"], "weights": [], "groups": [], "rowTitle": "target",
        "columnTitle": "source", "rightToLeft": False,
    }  # fmt: skip
    figure = attention_figure(["one"], [one])
    figure.canvas.draw()
    assert figure.axes[0].images[0].get_array().mask.all()
