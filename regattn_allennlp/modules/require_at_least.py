from allennlp.common.checks import ConfigurationError


def require_at_least(minimum: int, value: int, key: str, reason: str = "") -> None:
    """A ConfigurationError if `value`, which a config has under `key`, is below `minimum`."""
    if value < minimum:
        raise ConfigurationError(f'"{key}" must be at least {minimum}{reason}, but is {value}')
