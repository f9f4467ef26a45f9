import hashlib
from pathlib import Path
from typing import Optional

import sentencepiece
from allennlp.common.checks import ConfigurationError
from allennlp.common.file_utils import cached_path
from allennlp.data.tokenizers import Token, Tokenizer

from regattn_allennlp.whole_file import whole_file


@Tokenizer.register("sentencepiece")
class SentencepieceTokenizer(Tokenizer):
    """
    A `Tokenizer` that splits text into the subwords of a sentencepiece model (Kudo and Richardson 2018), such as
    `allennlp train-subwords` writes. The tokens' texts are the pieces as sentencepiece writes them, with "▁" for the
    space before a word. White space of any kind and length counts as one space.

    An archive of a model that was trained with this tokenizer holds the sentencepiece model, too: whoever loads the
    archive gets the subwords of the training, whatever has become of the file since.

    Registered as a `Tokenizer` with name "sentencepiece".

    # Parameters

    model_path : `str`
        The path or the URL of the sentencepiece model, a `.model` file.
    serialization_dir : `str`, optional (default=`None`)
        Not for configurations: AllenNLP gives the folder that a model is trained in or loaded from.

    # Raises

    `ConfigurationError`
        If the file cannot be found, or is no sentencepiece model.
    """

    def __init__(self, model_path: str, serialization_dir: Optional[str] = None) -> None:
        kept = None if serialization_dir is None else _kept(serialization_dir, model_path)
        if kept is not None and kept.is_file():
            path = kept
        else:
            try:
                path = Path(cached_path(model_path))
            except Exception as error:  # each kind of URL has a client, and each client its own errors
                raise ConfigurationError(
                    f'The sentencepiece model "{model_path}" could not be opened: {error}. Name another one by '
                    "model_path of the tokenizer, or write it by `allennlp train-subwords`."
                ) from error
        content = path.read_bytes()
        try:
            # It is all of the state: objects of this class are pickled by the content of their model.
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=content)
        except RuntimeError as error:
            raise ConfigurationError(f'"{model_path}" is no sentencepiece model: {error}') from error
        if not self._processor.get_piece_size():
            raise ConfigurationError(f'"{model_path}" is no sentencepiece model: it has no pieces.')
        if kept is not None and path != kept:
            kept.parent.mkdir(parents=True, exist_ok=True)
            # Each of the processes that train together does.
            with whole_file(kept, several_write=True) as unfinished:
                Path(unfinished).write_bytes(content)

    def tokenize(self, text: str) -> list[Token]:
        return [Token(piece) for piece in self._processor.encode(one_line(text), out_type=str)]

    def batch_tokenize(self, texts: list[str]) -> list[list[Token]]:
        batch = self._processor.encode([one_line(text) for text in texts], out_type=str)
        return [[Token(piece) for piece in pieces] for pieces in batch]


def one_line(text: str) -> str:
    """The text with one space in place of every run of white space, as the subwords are trained on it."""
    return " ".join(text.split())


def _kept(serialization_dir: str, model_path: str) -> Path:
    """
    Where the model is kept for the archive: of what a tokenizer could write, AllenNLP archives the vocabulary's folder
    alone; there it takes all files for vocabularies but those whose names begin with a dot. An archive's config knows
    the model by the path that it had, so the name is made of that.
    """
    digest = hashlib.sha256(model_path.encode()).hexdigest()[:16]
    return Path(serialization_dir, "vocabulary", f".sentencepiece-{digest}.model")
