from typing import Any, get_args

from allennlp.common.checks import ConfigurationError


def require_one_of(kind: Any, value: str, key: str) -> Any:
    """`value`, which a config has under `key`; a ConfigurationError if the `Literal` type `kind` does not have it."""
    if value not in get_args(kind):
        raise ConfigurationError(f'"{key}" must be one of {list(get_args(kind))}, but is "{value}"')
    return value
