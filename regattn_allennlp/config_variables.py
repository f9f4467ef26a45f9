"""
The environment variables that the configs under training_configs read. Jsonnet's std.extVar has no default value and
stops at a variable that is not set; AllenNLP imports this package before it reads a config, so defaults are set here.
"""

import os

# Path or address of pre-trained word vectors; empty: the vectors are learned.
os.environ.setdefault("GLOVE", "")

# Path of a model of subwords, as `allennlp train-subwords` writes them; empty: tokens are words.
os.environ.setdefault("SUBWORDS", "")

# Name on the Hugging Face hub, or path, of a pretrained transformer, and the dimension of what it gives.
os.environ.setdefault("TRANSFORMER", "albert-base-v2")
os.environ.setdefault("TRANSFORMER_DIM", "768")

# The size of the embeddings in the configs of Deng et al. 2018, an even number; all others are multiples of it.
os.environ.setdefault("DENG2018_DIM", "512")
