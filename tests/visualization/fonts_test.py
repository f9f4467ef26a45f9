import matplotlib
import numpy as np
import pytest
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

from regattn_allennlp.visualization.fonts import fonts_for

# Of the planes for private use: no font of a machine has it.
NOWHERE = "\U0010f8d7"


def can_be_drawn(character: str, families: list[str]) -> bool:
    properties = [font_manager.FontProperties(family=[family]) for family in families]
    fonts = [FT2Font(font_manager.findfont(one, fallback_to_default=False)) for one in properties]
    return any(font.get_char_index(ord(character)) for font in fonts)


def test_what_matplotlibs_own_font_has_needs_no_other(recwarn, monkeypatch):
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: pytest.fail("looked for other fonts"))
    monkeypatch.setattr(matplotlib, "__version_info__", (3, 11, 0))  # an older one warns of the direction
    fonts = fonts_for({"dog", "grüßt", "ё", "שלום", "كلب", "two words"})
    assert fonts.emoji == {} and not recwarn.list


def test_characters_that_no_font_has_are_named():
    with pytest.warns(UserWarning, match=f"the characters {NOWHERE}: .*apt install"):
        fonts_for({"dog", f"x{NOWHERE}"})


def test_a_machine_without_fonts_is_told_what_to_install(monkeypatch):
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [])
    with pytest.warns(UserWarning, match="the characters 狗 🤖: .*fonts-noto-cjk"):
        fonts_for({"狗", "🤖"})


@pytest.mark.parametrize("word", ["狗", "いぬ", "개", "कुत्ता"])
def test_a_font_is_found_for(word, recwarn):
    fonts = fonts_for({word})
    if recwarn.list:
        pytest.skip(f"this machine has no font for {word}")
    assert all(can_be_drawn(character, fonts.families) for character in word)


@pytest.mark.parametrize("word", ["🤖", "👩\u200d🚀"])
def test_emoji_are_pictures_in_colour(word, recwarn):
    fonts = fonts_for({word, "dog"})
    if not fonts.emoji:
        pytest.skip("this machine has no font with emoji in colour")
    assert set(fonts.emoji) == {word} and not recwarn.list
    picture = fonts.picture(word)
    shown = picture[picture[..., 3] > 128][:, :3].astype(int)
    assert len(shown) > 100 and (np.ptp(shown, axis=1) > 30).any()


def test_emoji_that_no_font_has_are_written_by_name(monkeypatch):
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [])
    words = ["dog", "👩\u200d🚀", "x🤖", "🇩🇪", "睡"]
    with pytest.warns(UserWarning, match="emoji are drawn as their names, others as boxes"):
        fonts = fonts_for(words)
    assert [fonts.text(word) for word in words] == ["dog", "[woman]", "x[robot face]", "[flag DE]", "睡"]


def test_an_older_matplotlib_that_cannot_join_letters_is_named(monkeypatch):
    monkeypatch.setattr(matplotlib, "__version_info__", (3, 10, 8))
    with pytest.warns(UserWarning, match="right to left .*3.11"):
        fonts_for({"dog", "كلب"})
