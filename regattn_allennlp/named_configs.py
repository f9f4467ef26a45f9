"""
The configs that come with this package, by name: `allennlp train regattn:sample/fusedmax ...`. They are the files of
the folder training_configs, which a clone has at its top, and an installation within the package.
"""

import functools
from os import PathLike
from pathlib import Path
from typing import Any, Union

from allennlp.common import Params
from allennlp.common.checks import ConfigurationError

PREFIX = "regattn:"
FOLDER = Path(__file__).parent / "training_configs"


def find_config(name: Union[str, PathLike]) -> Union[str, PathLike]:
    """
    The path of the config that is called so: `regattn:sample/fusedmax` is training_configs/sample/fusedmax.jsonnet.
    What does not begin with `regattn:` is returned as it is.

    # Raises

    `ConfigurationError`
        If there is no such config. The message has the names.
    """
    if not str(name).startswith(PREFIX):
        return name
    paths = {
        f"{PREFIX}{path.relative_to(FOLDER).with_suffix('').as_posix()}": path for path in FOLDER.glob("*/*.jsonnet")
    }
    if name not in paths:
        raise ConfigurationError(f"There is no config {name}; there are {', '.join(sorted(paths))}.")
    return paths[str(name)]


def _find_when_read(params: Any) -> None:
    from_file = params.from_file

    @functools.wraps(from_file)
    def from_file_or_name(cls: Any, params_file: Union[str, PathLike], *args: Any, **kwargs: Any) -> Any:
        return from_file.__func__(cls, find_config(params_file), *args, **kwargs)

    params.from_file = classmethod(from_file_or_name)


# All commands that take a config read it by this one method.
_find_when_read(Params)
