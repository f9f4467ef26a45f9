from collections.abc import Iterable
from typing import Optional

import spacy
from allennlp.common.checks import ConfigurationError
from allennlp.data.tokenizers import Token, Tokenizer
from spacy.language import Language


@Tokenizer.register("spacy_language")
class SpacyLanguageTokenizer(Tokenizer):
    """
    A `Tokenizer` that splits text by the rules spaCy ships for a language. AllenNLP's own `"spacy"` tokenizer always
    loads a trained pipeline, which is a separate download; the rules alone are part of spaCy itself.

    A trained pipeline works as well: whatever it annotates (lemma, part of speech, dependency, entity type) is then
    set on each `Token`, for the token indexers that use it. Whitespace tokens are left out.

    Registered as a `Tokenizer` with name "spacy_language".

    # Parameters

    language : `str`, optional (default=`"en"`)
        A language code that spaCy knows, such as `"en"` or `"de"` (`"xx"` for any language); or the name or the path
        of an installed spaCy pipeline, such as `"en_core_web_sm"`.
    start_tokens : `List[str]`, optional (default=`None`)
        These tokens are added to the start of every text, in this order.
    end_tokens : `List[str]`, optional (default=`None`)
        These tokens are added to the end of every text, in this order.

    # Raises

    `ConfigurationError`
        If `language` is neither a language spaCy has rules for nor an installed pipeline.
    """

    def __init__(
        self,
        language: str = "en",
        start_tokens: Optional[list[str]] = None,
        end_tokens: Optional[list[str]] = None,
    ) -> None:
        self._language = language
        self._start_tokens = start_tokens or []
        self._end_tokens = end_tokens or []
        self._pipeline = _load_pipeline(language)

    def tokenize(self, text: str) -> list[Token]:
        return self._to_tokens(self._pipeline(text))

    def batch_tokenize(self, texts: list[str]) -> list[list[Token]]:
        return [self._to_tokens(document) for document in self._pipeline.pipe(texts)]

    def _to_tokens(self, document: Iterable[spacy.tokens.Token]) -> list[Token]:
        # AllenNLP's tokens rather than spaCy's: these can be pickled, and do not keep the document in memory.
        tokens = [
            Token(
                text=token.text,
                idx=token.idx,
                idx_end=token.idx + len(token.text),
                lemma_=token.lemma_,
                pos_=token.pos_,
                tag_=token.tag_,
                dep_=token.dep_,
                ent_type_=token.ent_type_,
            )
            for token in document
            if not token.is_space
        ]
        # The offsets of the tokens that are not in the text are those of AllenNLP's own `SpacyTokenizer`.
        start_tokens = [Token(text, idx=0) for text in self._start_tokens]
        end_tokens = [Token(text, idx=-1) for text in self._end_tokens]
        return start_tokens + tokens + end_tokens


def _load_pipeline(language: str) -> Language:
    try:
        return spacy.blank(language)
    except ImportError as no_rules:
        try:
            return spacy.load(language)
        except OSError:
            installed = ", ".join(spacy.util.get_installed_models()) or "none"
            raise ConfigurationError(
                f'The tokenizer\'s language "{language}" is neither a language code that spaCy has rules for, such as '
                f'"en", nor an installed spaCy pipeline (installed: {installed}). spaCy says: {no_rules}'
            ) from no_rules
