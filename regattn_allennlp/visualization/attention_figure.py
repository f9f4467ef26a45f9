"""Heat maps of attention as a picture, after figure 3 of Niculae & Blondel 2017 (arXiv 1705.07704)."""

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, Optional

import numpy as np
from allennlp.common.checks import ConfigurationError
from allennlp.common.util import JsonDict
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from matplotlib.patches import FancyBboxPatch, Patch, Rectangle
from matplotlib.text import Text
from matplotlib.transforms import Affine2D, Bbox, ScaledTranslation
from more_itertools import divide
from PIL import Image

from regattn_allennlp.visualization.equal_weights import Run
from regattn_allennlp.visualization.fonts import Fonts, fonts_for, visible

# Inches, except for the sizes of letters in points.
CELL_WIDTH, CELL_HEIGHT = 0.29, 0.25
GAP = 0.2
# Maps go below each other rather than beyond this, about.
MAX_WIDTH = 14.0
WORD_SIZE, NUMBER_SIZE, TITLE_SIZE, LEGEND_SIZE = 10.0, 7.5, 10.0, 8.0
# The width of a picture of regions; without an image it is as high.
PICTURE_WIDTH = 3.6
# Titles have lines as wide as their map, but at least so wide, and of each of their paragraphs no more lines.
MIN_TITLE_WIDTH = 2.4
MAX_TITLE_LINES = 4
# What is written above all maps has lines of at least this width.
MIN_HEADING_WIDTH = 4.5
# Of a letter, on average, as a share of the letters' size.
LETTER_WIDTH = 0.55

QUIET_COLOR = "0.35"
GROUP_COLOR = "#c44e00"
# Of regions, in turn.
GROUP_COLORS = (GROUP_COLOR, "#00795c", "#9b2fae", "#7a6a00")
# How much of the image a region of weight 1 covers.
MAX_OPACITY = 0.75
MAX_NAME_LETTERS = 22
# A row is a word, in general; it may be a question.
MAX_WORD_LETTERS = 40
# The regions with the highest weights have labels; more would hide the picture.
MAX_LABELS = 12
# Where lines that join the runs of a group go, from the middle of a row: each group of a row has a height of its own.
JOINT_HEIGHTS = (0.32, -0.32, 0.24, -0.24)


def attention_figure(
    titles: Sequence[str], maps: Sequence[JsonDict], heading: Optional[Mapping[str, str]] = None
) -> Figure:
    """
    Below the maps stands what of boxes, lines, dots and blanks they have.

    # Parameters

    titles : `List[str]`
        What is too long becomes several lines, and is cut.
    maps : `List[JsonDict]`
        Of `AttentionPredictor.attention_map`, to stand side by side as far as there is space. One with "boxes" is
        drawn as a picture of regions; without a heading, its one row is part of the title.
    heading : `Dict[str, str]`, optional (default = `None`)
        What the maps are of, by its names, to be written above them: {"premise": "A dog sleeps.", ...}.

    # Raises

    `ConfigurationError`
        For an image that cannot be read.
    """
    titles = [visible(title) for title in titles]
    maps = [{**one, "rows": [*map(visible, one["rows"])], "columns": [*map(visible, one["columns"])]} for one in maps]
    above = [visible(f"{name}: {text}") for name, text in (heading or {}).items()]
    fonts = fonts_for({*titles, *above, *(word for one in maps for word in (*one["rows"], *one["columns"]))})
    figure = Figure()
    renderer = FigureCanvasAgg(figure).get_renderer()  # measures text, for any format
    figure_width, figure_height = figure.get_size_inches()
    width = max(_size(one)[0] for one in maps)
    number_of_lines = math.ceil(len(maps) * (width + GAP) / MAX_WIDTH)
    lines = [list(line) for line in divide(min(number_of_lines, len(maps)), zip(titles, maps, strict=True))]
    lines_of_axes: list[list[Axes]] = []
    for line in lines:
        lines_of_axes.append([])
        for title, one in line:
            # The words of equal rows are written once, at the outside.
            outside = line[-1 if one["rightToLeft"] else 0][1]
            map_width, map_height = _size(one)
            axes = figure.add_axes((0, 0, map_width / figure_width, map_height / figure_height))
            axes.set_title(
                _in_lines(fonts.text("\n".join([title, *one["rows"]]) if one.get("boxes") and not above else title),
                          max(map_width, MIN_TITLE_WIDTH)),
                fontsize=TITLE_SIZE, fontfamily=fonts.families, parse_math=False,
            )  # fmt: skip
            if one.get("boxes"):
                _draw_regions(axes, one, fonts, renderer)
            else:
                with_row_words = one is outside or any(
                    one[key] != outside[key] for key in ("rows", "rowTitle", "unknownRows") if key in one
                )
                _draw(figure, axes, one, fonts, renderer, with_row_words)
            lines_of_axes[-1].append(axes)
    _arrange(figure, lines_of_axes, "\n".join(map(fonts.text, above)), _legend_handles(maps), fonts, renderer)
    return figure


def _size(one: JsonDict) -> tuple[float, float]:
    """The width and the height of a map, in inches."""
    if not one.get("boxes"):
        return CELL_WIDTH * len(one["columns"]), CELL_HEIGHT * max(len(one["rows"]), 1)
    if not one.get("image"):
        return PICTURE_WIDTH, PICTURE_WIDTH
    height, width = _read_image(one["image"]).shape[:2]
    return PICTURE_WIDTH, PICTURE_WIDTH * height / width


@lru_cache(maxsize=1)  # the maps of all models are of one image
def _read_image(path: str) -> np.ndarray:
    """Shape: (height, width, 3)"""
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except OSError as error:
        raise ConfigurationError(f'The image "{path}" cannot be read: {error}') from error


def _in_lines(title: str, width: float) -> str:
    """Lines of about this width, in inches."""
    letters = int(width * 72 / (LETTER_WIDTH * TITLE_SIZE))
    return "\n".join(
        textwrap.fill(paragraph, letters, max_lines=MAX_TITLE_LINES, placeholder=" …")
        for paragraph in title.splitlines()
    )


def _draw_regions(axes: Axes, one: JsonDict, fonts: Fonts, renderer: RendererBase) -> None:
    weights, groups, boxes = one["weights"][0], one["groups"][0], one["boxes"]
    axes.set(xlim=(0, 1), ylim=(1, 0), xticks=[], yticks=[])
    axes.spines[:].set(color="0.6", linewidth=0.6)
    if one.get("image"):
        axes.imshow(_read_image(one["image"]), extent=(0, 1, 1, 0), aspect="auto")
    shade = colormaps["Blues"](1.0)[:3]
    colors = {
        column: GROUP_COLORS[index % len(GROUP_COLORS)]
        for index, runs in enumerate(groups)
        for start, stop in runs
        for column in range(start, stop)
    }

    def area(column: int) -> float:
        left, top, right, bottom = boxes[column]
        return (right - left) * (bottom - top)

    # Small ones last, so that one within another keeps its outline.
    for column in sorted(range(len(boxes)), key=area, reverse=True):
        left, top, right, bottom = boxes[column]
        rectangle = (left, top), right - left, bottom - top
        # A light line under the outline, to be seen on a dark image.
        axes.add_patch(Rectangle(*rectangle, fill=False, edgecolor=(1, 1, 1, 0.7), linewidth=2.0))
        axes.add_patch(
            Rectangle(
                *rectangle, facecolor=(*shade, MAX_OPACITY * weights[column]), edgecolor=colors.get(column, "0.15"),
                linewidth=2.2 if column in colors else 1.0 if weights[column] > 0 else 0.5,
            )
        )  # fmt: skip
    placed: list[Bbox] = []
    # Without a picture, names are all that tells what the regions without weight are.
    labelled = [column for column in range(len(boxes)) if weights[column] > 0 or not one.get("image")]
    for column in sorted(labelled, key=lambda column: -weights[column])[:MAX_LABELS]:
        name = _cut(fonts.text(one["columns"][column]) or str(column + 1), MAX_NAME_LETTERS)
        number = _number(weights[column])
        # Where there is no place for both, the weight alone, or none.
        for text in (f"{number} {name}", number) if weights[column] > 0 else (name,):
            if extent := _place_label(axes, text, boxes[column], fonts, placed, renderer):
                placed.append(extent)
                break


def _place_label(
    axes: Axes, text: str, box: Sequence[float], fonts: Fonts, placed: Sequence[Bbox], renderer: RendererBase
) -> Optional[Bbox]:
    """
    Writes in a corner of the box or just outside, where none of the labels placed so far is, and within the picture.
    Returns what it covers; `None` if there is no such place.
    """
    left, top, right, bottom = box
    label = axes.text(
        0, 0, text, size=NUMBER_SIZE, fontfamily=fonts.families, parse_math=False, color="black",
        bbox={"facecolor": (1, 1, 1, 0.8), "edgecolor": "none", "pad": 1.0},
    )  # fmt: skip
    picture = axes.get_window_extent(renderer)
    margin = 0.012
    inside = [
        (left + margin, top + margin, "left", "top"),
        (left + margin, bottom - margin, "left", "bottom"),
        (right - margin, top + margin, "right", "top"),
        (right - margin, bottom - margin, "right", "bottom"),
    ]
    outside = [
        (left, top - margin, "left", "bottom"),
        (left, bottom + margin, "left", "top"),
        (right, top - margin, "right", "bottom"),
        (right, bottom + margin, "right", "top"),
    ]
    # A label that is wider than its box would lie across the edges.
    size = label.get_window_extent(renderer).padded(3.0)
    fits = size.width <= (right - left) * picture.width and size.height <= (bottom - top) * picture.height
    for x, y, horizontal, vertical in [*inside, *outside] if fits else [*outside, *inside]:
        label.set(position=(x, y), horizontalalignment=horizontal, verticalalignment=vertical)
        extent = label.get_window_extent(renderer).padded(1.0)
        if _within(extent, picture) and not any(extent.overlaps(other) for other in placed):
            return extent
    label.remove()
    return None


def _within(inner: Bbox, outer: Bbox) -> bool:
    return inner.x0 >= outer.x0 and inner.x1 <= outer.x1 and inner.y0 >= outer.y0 and inner.y1 <= outer.y1


def _cut(text: str, max_letters: int) -> str:
    return text if len(text) <= max_letters else text[: max_letters - 1] + "…"


def _number(weight: float) -> str:
    """As narrow as it goes; a weight below .005 is a dot, so as not to be read as 0."""
    if weight >= 0.995:
        return "1"
    return f"{weight:.2f}"[1:] if weight >= 0.005 else "\u00b7"


def _draw(
    figure: Figure, axes: Axes, one: JsonDict, fonts: Fonts, renderer: RendererBase, with_row_words: bool
) -> None:
    rows, columns = ([_cut(word, MAX_WORD_LETTERS) for word in one[name]] for name in ("rows", "columns"))
    unknown_rows, unknown_columns = one.get("unknownRows", ()), one.get("unknownColumns", ())
    colors = colormaps["Blues"]
    # A text without words, which a model may write, is an empty row.
    rows, weights_of_rows = rows or [""], one["weights"] or [[0.0] * len(columns)]
    axes.imshow(np.ma.masked_equal(weights_of_rows, 0), cmap=colors, vmin=0, vmax=1, aspect="auto")
    if one["rightToLeft"]:
        axes.invert_xaxis()
        axes.yaxis.tick_right()
    axes.xaxis.tick_top()
    written_columns, written_rows = (
        ["" if word in fonts.emoji else fonts.text(word) for word in words] for words in (columns, rows)
    )
    # Words are turned, all of them, if there is one that is wider than a cell: two of the widest letters fit.
    upright = max(map(len, written_columns)) <= 2
    style: dict[str, Any] = {"fontsize": WORD_SIZE, "fontfamily": fonts.families, "parse_math": False}
    turned = {"rotation": -60, "ha": "right"} if one["rightToLeft"] else {"rotation": 60, "ha": "left"}
    column_style = style if upright else {**style, **turned, "rotation_mode": "anchor"}
    axes.set_xticks(range(len(columns)), written_columns, **column_style)
    quiet: dict[str, Any] = {"fontsize": LEGEND_SIZE, "color": QUIET_COLOR}
    axes.xaxis.set_label_position("top")
    axes.set_xlabel(
        f"attends to {one['columnTitle']} {'←' if one['rightToLeft'] else '→'}",
        loc="right" if one["rightToLeft"] else "left", **quiet,
    )  # fmt: skip
    if with_row_words:
        axes.set_yticks(range(len(rows)), written_rows, **style)
        side, shift, alignment = (1, 4, "left") if one["rightToLeft"] else (0, -4, "right")
        axes.annotate(
            f"{one['rowTitle']} ↓", (side, 1), (shift, 4), xycoords="axes fraction", textcoords="offset points",
            ha=alignment, va="bottom", **quiet,
        )  # fmt: skip
    else:
        axes.set_yticks([])
    axes.tick_params(length=0)
    axes.spines[:].set(color="0.6", linewidth=0.6)
    for column, word in enumerate(columns):
        if word in fonts.emoji:
            picture = _picture(fonts, word, column in unknown_columns)
            _draw_picture(axes, picture, (column, 1), ("data", "axes fraction"), (0, 5), (0.5, 0))
    for row, word in enumerate(rows):
        if word in fonts.emoji and with_row_words:
            at, shift, edge = (1, 8, 0) if one["rightToLeft"] else (0, -8, 1)
            picture = _picture(fonts, word, row in unknown_rows)
            _draw_picture(axes, picture, (at, row), ("axes fraction", "data"), (shift, 0), (edge, 0.5))
    labels = [axes.get_xticklabels()[column] for column in unknown_columns]
    labels += [axes.get_yticklabels()[row] for row in unknown_rows if with_row_words]
    for label in labels:
        if label.get_text():
            _underline(figure, axes, label, renderer)
    for row, (weights, groups) in enumerate(zip(one["weights"], one["groups"], strict=True)):
        for column, weight in enumerate(weights):
            if weight > 0:
                color = _text_color(colors, weight)
                text = axes.text(column, row, _number(weight), size=NUMBER_SIZE, color=color, ha="center", va="center")
                text.set_in_layout(False)  # there may be thousands, all within the map: not to be measured
        joined = [runs for runs in groups if len(runs) > 1]
        for runs in groups:
            height = JOINT_HEIGHTS[joined.index(runs) % len(JOINT_HEIGHTS)] if runs in joined else 0.0
            _outline(axes, row, runs, height)


def _outline(axes: Axes, row: int, runs: Sequence[Run], joint_height: float) -> None:
    """A box round each run, and a line from each to the next."""
    inset = 0.08
    for start, stop in runs:
        corner = start - 0.5 + inset, row - 0.5 + inset
        width, height = stop - start - 2 * inset, 1 - 2 * inset
        box = FancyBboxPatch(corner, width, height, "round,pad=0,rounding_size=0.15", in_layout=False)
        box.set(fill=False, edgecolor=GROUP_COLOR, linewidth=1.2)
        axes.add_artist(box)
    for (_, stop), (start, _) in pairwise(runs):
        ends = stop - 0.5 - inset, start - 0.5 + inset
        axes.plot(ends, [row + joint_height] * 2, color=GROUP_COLOR, linewidth=0.6, in_layout=False)


def _text_color(colors: Colormap, weight: float) -> str:
    """Black or white, whichever has more contrast by the luminance of WCAG 2."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colors(weight)[:3]]
    luminance = sum(share * part for share, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    return "white" if 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.05 else "black"


def _picture(fonts: Fonts, word: str, is_unknown: bool) -> np.ndarray:
    """Of an emoji; with a dotted line below it, if the model does not know it. Shape: (height, width, 4)"""
    picture = fonts.picture(word)
    if not is_unknown:
        return picture
    height, width, _ = picture.shape
    dot = height // 12
    line = np.zeros((2 * dot, width, 4), picture.dtype)
    line[dot:, np.arange(width) // dot % 2 == 0, 3] = 255
    return np.concatenate([picture, line])


def _draw_picture(axes: Axes, picture: np.ndarray, place, coordinates, shift, alignment) -> None:
    image = OffsetImage(picture, zoom=1.2 * WORD_SIZE / picture.shape[0])
    box = AnnotationBbox(
        image, place, shift, coordinates, "offset points", frameon=False, pad=0, box_alignment=alignment
    )
    axes.add_artist(box)


def _underline(figure: Figure, axes: Axes, label: Text, renderer: RendererBase) -> None:
    """A dotted line along a word, which may be turned. It goes with the word wherever its map is put."""
    rotation = label.get_rotation()
    label.set_rotation(0)
    box = label.get_window_extent(renderer)
    label.set_rotation(rotation)
    place = label.get_transform().transform(label.get_position())
    # In inches from the word's place, about which it is turned.
    ends = (np.array([(box.x0, box.y0), (box.x1, box.y0)]) - place) / figure.dpi
    ends = Affine2D().rotate_deg(rotation).transform(ends)
    moved = figure.dpi_scale_trans + ScaledTranslation(*label.get_position(), label.get_transform())  # type: ignore[arg-type]
    line = Line2D(*ends.T, transform=moved, color="black", linewidth=1.0, linestyle=(0, (1, 1.5)), clip_on=False)
    line.set_in_layout(False)
    axes.add_artist(line)


def _legend_handles(maps: Sequence[JsonDict]) -> list[Artist]:
    """What says what the maps show, as far as they have it."""
    of_words = [one for one in maps if not one.get("boxes")]
    of_regions = [one for one in maps if one.get("boxes")]

    def has(maps: Sequence[JsonDict], is_so: Callable[[float], bool]) -> bool:
        return any(is_so(weight) for one in maps for weights in one["weights"] for weight in weights)

    def groups(maps: Sequence[JsonDict]) -> list[Sequence[Run]]:
        return [runs for one in maps for of_row in one["groups"] for runs in of_row]

    handles: list[Artist] = []
    if has(of_words, lambda weight: weight == 0):
        handles.append(Patch(facecolor="white", edgecolor="0.6", linewidth=0.6, label="blank: exactly 0"))
    if has(of_words, lambda weight: 0 < weight < 0.005):
        handles.append(Line2D([], [], linestyle="none", marker=".", markersize=3, color="black", label="below .005"))
    if groups(of_words):
        handles.append(Patch(fill=False, edgecolor=GROUP_COLOR, linewidth=1.2, label="share one weight"))
    if any(len(runs) > 1 for runs in groups(of_words)):
        handles.append(Line2D([], [], color=GROUP_COLOR, linewidth=0.6, label="joins boxes of one group"))
    if any(one.get("unknownRows") or one.get("unknownColumns") for one in of_words):
        handles.append(
            Line2D([], [], color="black", linewidth=1.0, linestyle=(0, (1, 1.5)), label="unknown to the model")
        )
    if has(of_regions, lambda weight: weight == 0):
        handles.append(Patch(fill=False, edgecolor="0.15", linewidth=0.5, label="exactly 0"))
    if groups(of_regions):
        handles.append(
            Patch(fill=False, edgecolor=GROUP_COLOR, linewidth=2.2, label="thick, of one colour: share one weight")
        )
    return handles


def _arrange(
    figure: Figure, lines: Sequence[Sequence[Axes]], above: str, handles: Sequence[Artist], fonts: Fonts,
    renderer: RendererBase,
) -> None:  # fmt: skip
    """
    Puts the maps, each with what is written round it, into lines, what is of all above and below them, and gives the
    figure the size of that.
    """
    boxes: dict[Axes, tuple[float, float, float, float]] = {}
    y, full_width = GAP, 0.0
    for line in lines:
        margins = [_margins(axes, renderer) for axes in line]
        y += max(top for _, _, _, top in margins)  # the maps of a line begin at one height
        x, bottom_of_line = GAP, y
        for axes, (left, right, bottom, _) in zip(line, margins, strict=True):
            width, height = axes.get_position().size * figure.get_size_inches()
            boxes[axes] = x + left, y + height, width, height
            x += left + width + right + GAP
            bottom_of_line = max(bottom_of_line, y + height + bottom)
        full_width = max(full_width, x)
        y = bottom_of_line + GAP
    dpi, shift = figure.dpi, 0.0
    if above:
        full_width = max(full_width, MIN_HEADING_WIDTH + 2 * GAP)
        text = figure.text(
            0, 0, _in_lines(above, full_width - 2 * GAP), va="top", fontsize=TITLE_SIZE, fontfamily=fonts.families,
            parse_math=False,
        )  # fmt: skip
        extent = text.get_window_extent(renderer)
        full_width = max(full_width, extent.width / dpi + 2 * GAP)  # letters are wider in some scripts
        shift = extent.height / dpi + GAP
    if handles:
        legend = _legend(figure, handles, (full_width - 2 * GAP) * dpi, renderer)
        extent = legend.get_window_extent(renderer)
        full_width = max(full_width, extent.width / dpi + 2 * GAP)
        y += extent.height / dpi + GAP
    full_height = shift + y
    figure.set_size_inches(full_width, full_height)
    for axes, (left, bottom, width, height) in boxes.items():
        place = left / full_width, 1 - (shift + bottom) / full_height, width / full_width, height / full_height
        axes.set_position(place)
    if above:
        text.set_position((GAP / full_width, 1 - GAP / full_height))
    if handles:
        legend.set_bbox_to_anchor((GAP / full_width, GAP / full_height), figure.transFigure)


def _legend(figure: Figure, handles: Sequence[Artist], width: float, renderer: RendererBase) -> Legend:
    """In as many columns as go into the width, in pixels."""
    for number in range(len(handles), 0, -1):
        legend = figure.legend(
            handles=handles, ncols=number, loc="lower left", frameon=False, fontsize=LEGEND_SIZE,
            labelcolor=QUIET_COLOR, borderpad=0, borderaxespad=0, handlelength=1.6, handletextpad=0.5,
        )  # fmt: skip
        if number == 1 or legend.get_window_extent(renderer).width <= width:
            break
        legend.remove()
    return legend


def _margins(axes: Axes, renderer: RendererBase) -> tuple[float, float, float, float]:
    """How far what belongs to a map goes beyond it to the left, to the right, below, and above, in inches."""
    outer, inner = axes.get_tightbbox(renderer), axes.get_window_extent()
    assert outer is not None
    sides = inner.x0 - outer.x0, outer.x1 - inner.x1, inner.y0 - outer.y0, outer.y1 - inner.y1
    left, right, bottom, top = (side / axes.get_figure().dpi for side in sides)  # type: ignore[union-attr]
    return left, right, bottom, top
