"""The labels of instances, and those among them that a model does not know."""

from collections.abc import Iterator
from typing import Optional

from allennlp.common.checks import ConfigurationError
from allennlp.data import Field, Instance, Vocabulary
from allennlp.data.fields import LabelField, ListField, MultiLabelField, SequenceLabelField

# How many of the labels that a model knows an error shows.
NUM_SHOWN_LABELS = 20


class UnknownLabelError(ConfigurationError, KeyError):
    """
    What is raised in the place of the vocabulary's KeyError, which it still is.

    # Parameters

    label, problem : `str`
        What `unknown_label` gives.
    place : `str`, optional (default = `""`)
        Where the label was read.
    """

    def __init__(self, label: str, problem: str, place: str = "") -> None:
        super().__init__(f'{place}{": " if place else ""}the label "{label}" {problem}')
        self._arguments = label, problem, place

    def within(self, data: object) -> "UnknownLabelError":
        """The same error, in data whose name is known."""
        label, problem, place = self._arguments
        return UnknownLabelError(label, problem, f"{data}, {place}" if place else str(data))

    def __reduce__(self) -> tuple[type["UnknownLabelError"], tuple[str, str, str]]:
        return UnknownLabelError, self._arguments


def label_fields(field: Field) -> list[LabelField]:
    """The field itself or, as of a graph's nodes, those in it."""
    entries = field.field_list if isinstance(field, ListField) else [field]
    return [entry for entry in entries if isinstance(entry, LabelField)]


def unknown_label(instance: Instance, vocab: Vocabulary) -> Optional[tuple[str, str]]:
    """
    The first label of an instance that the vocabulary does not know, and what it knows, in words. `None` if there is
    none: a label that stands for an unknown one in a namespace that has one is known.
    """
    for field in instance.fields.values():
        for label, namespace in _labels(field):
            known = vocab.get_token_to_index_vocabulary(namespace)
            if label not in known and vocab._oov_token not in known:
                names = sorted(known)
                more = f" and {len(names) - NUM_SHOWN_LABELS} more" if len(names) > NUM_SHOWN_LABELS else ""
                return label, f"is none that the model knows: {names[:NUM_SHOWN_LABELS]}{more}"
    return None


def _labels(field: Field) -> Iterator[tuple[str, str]]:
    """The labels that are looked up in a vocabulary, each with its namespace; numbers are not."""
    if isinstance(field, ListField):
        for entry in field.field_list:
            yield from _labels(entry)
    elif isinstance(field, (LabelField, MultiLabelField, SequenceLabelField)):
        labels = [field.label] if isinstance(field, LabelField) else field.labels
        yield from ((label, field._label_namespace) for label in labels if isinstance(label, str))
