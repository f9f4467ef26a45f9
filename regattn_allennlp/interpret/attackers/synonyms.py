"""Tables of words that may stand for one another."""

from os import PathLike
from pathlib import Path

from allennlp.common.checks import ConfigurationError

# The table that comes with this package.
DEFAULT_SYNONYMS = Path(__file__).parent / "synonyms.txt"


def read_synonyms(path: str | PathLike) -> dict[str, list[str]]:
    """
    Reads groups of synonyms, one a line, the words separated by commas; lines that are empty or begin with `#` say
    nothing. Upper and lower case are the same.

    # Returns

    `Dict[str, List[str]]`
        Of each word all others of its groups, in the file's order.

    # Raises

    `ConfigurationError`
        If the file cannot be read, or a line is no group; the message names the file and the line.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f'The synonyms "{path}" cannot be read: {error}. Wanted is a text file in UTF-8 with a group of words a '
            'line, as "big, large".'
        ) from error
    synonyms: dict[str, list[str]] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        group = [word.strip().lower() for word in line.split(",")]
        _check_group(group, f"{path}, line {number}")
        for word in group:
            others = synonyms.setdefault(word, [])
            others += [other for other in group if other != word and other not in others]
    if not synonyms:
        raise ConfigurationError(f'The synonyms "{path}" have no group of words; one is a line such as "big, large".')
    return synonyms


def _check_group(group: list[str], place: str) -> None:
    for word in group:
        if not word:
            raise ConfigurationError(f'{place}: there is an empty word; a group is a line such as "big, large".')
        if len(word.split()) > 1:
            raise ConfigurationError(f'{place}: "{word}" is several words; only a single word can stand for another.')
        if group.count(word) > 1:
            raise ConfigurationError(f'{place}: "{word}" is there twice.')
    if len(group) == 1:
        raise ConfigurationError(
            f'{place}: "{group[0]}" is alone; a group has two words or more, separated by commas.'
        )
