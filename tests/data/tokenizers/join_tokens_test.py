import pytest

from regattn_allennlp.data.tokenizers import join_tokens


@pytest.mark.parametrize(
    "unit, tokens, text",
    [
        ("words", ["two", "dogs"], "two dogs"),
        ("characters", [*"two dogs"], "two dogs"),
        ("subwords", ["▁two", "▁do", "gs"], "two dogs"),
        ("subwords", [], ""),
    ],
)
def test_tokens_are_joined_by_what_they_are(unit, tokens, text):
    assert join_tokens(tokens, unit) == text
