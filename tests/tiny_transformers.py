"""Transformers of random weights, with tokenizers of their own, on disk as the transformers library reads them."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sentencepiece
import torch
import transformers
from tokenizers import ByteLevelBPETokenizer, Tokenizer, models, pre_tokenizers, trainers

TokenizerBuilder = Callable[[Path, list[str]], Any]

SENTENCES = ["A small dog sleeps in the garden.", "Two women are reading.", "An animal is asleep under an old tree."]

SIZES = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24}
POSITIONS = {"max_position_embeddings": 40}
RELATIVE = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]}
OF_ENCODER_AND_DECODER = {
    f"{part}_{key}": value
    for part in ("encoder", "decoder")
    for key, value in {"layers": 3, "attention_heads": 2, "ffn_dim": 24}.items()
}


def word_pieces(folder: Path, sentences: list[str]) -> Any:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(sentences, trainers.WordPieceTrainer(vocab_size=70, special_tokens=special))
    vocabulary = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().__getitem__)
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    return transformers.BertTokenizerFast(str(folder / "vocab.txt"), do_lower_case=False)


def byte_pairs(of: type) -> TokenizerBuilder:
    def build(folder: Path, sentences: list[str]) -> Any:
        tokenizer = ByteLevelBPETokenizer()
        special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "[CLS]", "[SEP]", "[PAD]", "[UNK]", "[MASK]"]
        tokenizer.train_from_iterator(sentences, vocab_size=290, special_tokens=special)
        tokenizer.save_model(str(folder))
        return of(str(folder / "vocab.json"), str(folder / "merges.txt"))

    return build


def sentence_pieces(of: Any) -> TokenizerBuilder:
    def build(folder: Path, sentences: list[str]) -> Any:
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            # AllenNLP learns from these two words where special tokens are.
            sentence_iterator=iter([*sentences, *["a b", "b a"] * 50]), model_writer=model, vocab_size=200,
            hard_vocab_limit=False, pad_id=0, unk_id=1, bos_id=2, eos_id=3, pad_piece="<pad>", bos_piece="[CLS]",
            eos_piece="[SEP]", control_symbols=["[MASK]"], num_threads=1, minloglevel=2,
        )  # fmt: skip
        (folder / of.vocab_files_names["vocab_file"]).write_bytes(model.getvalue())
        return of.from_pretrained(folder)  # a constructor that takes the file is of Transformers 4

    return build


# By layout: the class of the config, its fields, and the tokenizer.
KINDS: dict[str, tuple[type, dict[str, Any], TokenizerBuilder]] = {
    "bert": (transformers.BertConfig, SIZES | POSITIONS, word_pieces),
    "roberta": (transformers.RobertaConfig, SIZES | POSITIONS, byte_pairs(transformers.RobertaTokenizerFast)),
    "electra": (transformers.ElectraConfig, SIZES | POSITIONS | {"embedding_size": 8}, word_pieces),
    "albert": (
        transformers.AlbertConfig,
        # By default it has no dropout, as its largest one.
        SIZES | POSITIONS | {"embedding_size": 8, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1},
        sentence_pieces(transformers.AlbertTokenizerFast),
    ),
    "distilbert": (
        transformers.DistilBertConfig,
        {"dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 24, **POSITIONS},
        word_pieces,
    ),
    "deberta": (transformers.DebertaConfig, SIZES | POSITIONS, byte_pairs(transformers.DebertaTokenizerFast)),
    "deberta_relative": (
        transformers.DebertaConfig,
        SIZES | POSITIONS | RELATIVE,
        byte_pairs(transformers.DebertaTokenizerFast),
    ),
    "deberta_v2": (
        transformers.DebertaV2Config,
        SIZES | POSITIONS,
        sentence_pieces(transformers.DebertaV2TokenizerFast),
    ),
    # As the released models of version 3 have it: positions are projected by the weights of queries and of keys.
    "deberta_v3": (
        transformers.DebertaV2Config,
        SIZES | POSITIONS | RELATIVE | {"share_att_key": True, "position_buckets": 4, "norm_rel_ebd": "layer_norm"},
        sentence_pieces(transformers.DebertaV2TokenizerFast),
    ),
    "mpnet": (transformers.MPNetConfig, SIZES | POSITIONS, word_pieces),
    "bart": (
        transformers.BartConfig,
        {"d_model": 16, **OF_ENCODER_AND_DECODER, **POSITIONS},
        byte_pairs(transformers.BartTokenizerFast),
    ),
    "t5": (
        transformers.T5Config,
        {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 3, "num_heads": 2},
        word_pieces,
    ),
    "gpt2": (
        transformers.GPT2Config,
        {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 40},
        byte_pairs(transformers.RobertaTokenizerFast),
    ),
}


def write_transformer(folder: Path, kind: str, sentences: list[str] = SENTENCES, **fields: Any) -> Path:
    """
    Any of the `KINDS`, with more fields of its config and a tokenizer of these sentences, in a folder that is made for
    it.
    """
    config_class, of_kind, build_tokenizer = KINDS[kind]
    folder.mkdir(parents=True)
    tokenizer = build_tokenizer(folder, sentences)
    tokenizer.save_pretrained(folder)
    config = config_class(vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, **(of_kind | fields))
    model = transformers.AutoModel.from_config(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for parameter in model.parameters():  # the biases too: they begin with 0
            parameter.data.normal_(0, 0.4)
    model.save_pretrained(folder)
    return folder
