"""
Mends AllenNLP 2.10.1 where it no longer works with today's Python, PyTorch and other libraries, from outside: each
file of this package is a theme, each entry in it says what it puts back, which versions need it, and the test that
fails without it ([docs/compatibility.md](../../docs/compatibility.md) lists them).

Importing this package mends what is imported already, and the rest when it is imported. That happens by itself where
this package is installed: before the first module of AllenNLP is imported, see `regattn_allennlp_autoload`. Where
AllenNLP is not imported, nothing is changed.
"""

from regattn_allennlp.compatibility import (  # noqa: F401
    callbacks,
    checklists,
    checkpoints,
    data_loaders,
    distributed,
    downloads,
    evaluate_command,
    gradients,
    hub,
    interpretation,
    learning_rates,
    mistakes,
    mixed_precision,
    nltk_files,
    other_commands,
    plugins,
    predict_command,
    pretrained_transformers,
    recovery,
    registered_names,
    tensor_caches,
    training_folders,
    unusable_data,
    vocabularies,
)
