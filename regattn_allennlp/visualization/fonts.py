"""Fonts for the words of any language: matplotlib's own lacks Chinese, Japanese, Korean and most emoji."""

import unicodedata
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
import regex
from fontTools.ttLib import TTFont
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

from regattn_allennlp.visualization.attention_map import is_right_to_left

# The size in pixels of the letters of Noto Color Emoji, Apple Color Emoji and others: a bitmap font has few sizes.
BITMAP_SIZES = (109, 136, 128, 160, 96, 64, 32, 20)
# Say how to show what stands next to them; not drawn themselves.
INVISIBLE = {"\u200c", "\u200d", "\ufe0e", "\ufe0f"}
# All else that has nothing to be seen, such as U+FEFF, which PDF cannot even hold. A line's end is one in titles.
UNSEEN = regex.compile(rf"[[\p{{Default_Ignorable_Code_Point}}\p{{C}}]--[{''.join(INVISIBLE)}\n\p{{Co}}]]", regex.V1)
PICTOGRAPH = regex.compile(r"[\p{Extended_Pictographic}\p{Regional_Indicator}]")


@dataclass(frozen=True)
class Fonts:
    """
    # Parameters

    families : `List[str]`
        Matplotlib's families, the later ones for characters that the earlier ones lack.
    emoji : `Dict[str, ImageFont.FreeTypeFont]`
        The words to be drawn as a picture in colour, and the font to do it by: matplotlib draws no coloured letters.
    lacking : `Set[str]`
        The characters that the families do not have.
    """

    families: list[str]
    emoji: dict[str, ImageFont.FreeTypeFont]
    lacking: set[str]

    def text(self, text: str) -> str:
        """What to write for a text: emoji by their names, if they are not in the families: "[woman]"."""
        return "".join(map(self._written, regex.findall(r"\X", text)))

    def _written(self, grapheme: str) -> str:
        if grapheme[0] not in self.lacking or not PICTOGRAPH.match(grapheme):
            return grapheme
        if regex.fullmatch(r"\p{Regional_Indicator}+", grapheme):
            return f"[flag {''.join(unicodedata.name(letter)[-1] for letter in grapheme)}]"
        # Of several that are joined to one, an astronaut, the first says enough: a woman.
        return f"[{unicodedata.name(grapheme[0], 'emoji').lower()}]"

    def picture(self, word: str) -> np.ndarray:
        """Of a word of `emoji`. Shape: (height, width, 4)"""
        font = self.emoji[word]
        left, top, right, bottom = map(round, font.getbbox(word))
        image = Image.new("RGBA", (max(right - left, 1), max(bottom - top, 1)))
        ImageDraw.Draw(image).text((-left, -top), word, font=font, embedded_color=True)
        return np.asarray(image)


def visible(text: str) -> str:
    """
    The text without the characters that have nothing to be seen, such as byte order marks; their codes, if there is
    nothing else: "U+FEFF".
    """
    shown = UNSEEN.sub("", text)
    is_seen = not text or any(not character.isspace() and character not in INVISIBLE for character in shown)
    return shown if is_seen else " ".join(f"U+{ord(character):04X}" for character in text)


def fonts_for(words: Iterable[str]) -> Fonts:
    """
    As few of the machine's fonts as have all characters of the words. Warns of the characters that none of them has.
    """
    words = set(words)
    if matplotlib.__version_info__ < (3, 11) and any(map(is_right_to_left, words)):
        warnings.warn(
            "Words that run from right to left are drawn with their letters unjoined and in the wrong order: it takes "
            "matplotlib 3.11, which needs Python 3.11. An .html file shows them well.",
            stacklevel=2,
        )
    default = font_manager.FontProperties().get_family()
    missing = {character for word in words for character in word if not character.isspace()} - INVISIBLE
    missing -= _characters(font_manager.findfont(font_manager.FontProperties()))[1]
    lacking = set(missing)
    families: list[str] = []
    emoji: dict[str, ImageFont.FreeTypeFont] = {}
    if missing:
        fonts = [(path, *_characters(path)) for path in sorted(font_manager.findSystemFonts(), key=_preference)]
        for path, in_colour, characters in fonts:
            coloured = [word for word in words if set(word) & missing and set(word) <= characters | INVISIBLE]
            if in_colour and coloured:
                font = _bitmap_font(path)
                emoji.update(dict.fromkeys(coloured, font) if font else {})
                missing -= {character for word in emoji for character in word}
        outlines = [(path, characters) for path, in_colour, characters in fonts if not in_colour]
        while missing:
            path, characters = max(outlines, key=lambda font: len(font[1] & missing), default=("", set()))
            if not characters & missing:
                break
            families.append(_family(path))
            missing -= characters
            lacking -= characters
    if missing:
        warnings.warn(
            f"No font of this machine has the characters {' '.join(sorted(missing))}: emoji are drawn as their names, "
            "others as boxes. The Noto fonts have all of Unicode (on Debian and Ubuntu: apt install fonts-noto-core "
            "fonts-noto-cjk fonts-noto-color-emoji); an .html file shows what the browser can.",
            stacklevel=2,
        )
    return Fonts([*default, *families], emoji, lacking)


def _preference(path: str) -> tuple[bool, bool, str]:
    name = Path(path).stem
    upright = "Regular" in name or not any(style in name for style in ("Bold", "Italic", "Oblique", "Light", "Thin"))
    return not upright, "Sans" not in name, name


@cache
def _family(path: str) -> str:
    # Matplotlib remembers the fonts of the day it was first used: one installed since must be told to it.
    font_manager.fontManager.addfont(path)
    return font_manager.FontProperties(fname=path).get_name()


@cache
def _characters(path: str) -> tuple[bool, set[str]]:
    """Whether a font has bitmaps in colour, and the characters it has, as far as it can be drawn."""
    try:
        with TTFont(path, fontNumber=0, lazy=True) as font:
            in_colour = "CBDT" in font or "sbix" in font
            if not in_colour and "glyf" not in font and "CFF " not in font:
                return False, set()
            # Coloured outlines of version 1 have nothing behind them that could be drawn without colours.
            if "COLR" in font and font["COLR"].version > 0:
                return False, set()
            return in_colour, {chr(code) for code in font.getBestCmap() or ()}
    except Exception:  # a broken font among the machine's is not ours to report
        return False, set()


def _bitmap_font(path: str) -> ImageFont.FreeTypeFont | None:
    for size in BITMAP_SIZES:
        try:
            return ImageFont.truetype(path, size)
        except OSError:  # "invalid pixel size"
            continue
    return None
