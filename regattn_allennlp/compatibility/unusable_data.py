"""Data that a model cannot learn from or be evaluated by."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from regattn_allennlp.compatibility.mend import mend


@mend(
    "allennlp.data.data_loaders.multiprocess_data_loader",
    puts_back="Data that give no batch stop `train`, its validation and `evaluate`, and are named",
    versions="allennlp==2.10.1",
    test="tests/compatibility/unusable_data_test.py::test_data_without_a_batch_are_refused",
)
def refuse_data_without_a_batch(multiprocess_data_loader: Any) -> None:
    # AllenNLP goes through no batches as through any other number, and ends well with a model that learned nothing.
    from allennlp.common.checks import ConfigurationError

    loader = multiprocess_data_loader.MultiProcessDataLoader
    iterate = loader.__iter__

    @functools.wraps(iterate)
    def iterate_over_some(self: Any) -> Iterator[Any]:
        batch = None
        for batch in iterate(self):
            yield batch
        if batch is None:
            share = "" if self.reader.get_distributed_info() is None else " in the share of one of the processes"
            short = ', or fewer than a batch, and "drop_last" is true' if self.drop_last else ""
            raise ConfigurationError(
                f"{self.data_path} gives no batch{share}: there is no instance{short}. So there is nothing to train "
                "on or to evaluate."
            )

    loader.__iter__ = iterate_over_some


@mend(
    "allennlp.data.instance",
    puts_back="A label that the model does not know is named, with the labels that it knows",
    versions="allennlp==2.10.1",
    test="tests/compatibility/unusable_data_test.py::test_a_label_that_the_model_does_not_know_is_named",
)
def name_an_unknown_label(instance: Any) -> None:
    # AllenNLP gives a KeyError of the vocabulary, which knows nothing of the data.
    index_fields = instance.Instance.index_fields

    @functools.wraps(index_fields)
    def index_fields_or_name_a_label(self: Any, vocab: Any) -> None:
        try:
            index_fields(self, vocab)
        except KeyError as error:
            from regattn_allennlp.data.labels import UnknownLabelError, unknown_label

            unknown = unknown_label(self, vocab)
            if unknown is None:
                raise
            raise UnknownLabelError(*unknown, place=getattr(self, "place", "")) from error

    instance.Instance.index_fields = index_fields_or_name_a_label


@mend(
    "allennlp.data.data_loaders.multiprocess_data_loader",
    puts_back="With a label that the model does not know the data are named",
    versions="allennlp==2.10.1",
    test="tests/compatibility/unusable_data_test.py::test_a_label_that_the_model_does_not_know_is_named",
)
def name_the_data_of_an_unknown_label(multiprocess_data_loader: Any) -> None:
    loader = multiprocess_data_loader.MultiProcessDataLoader
    index_with, index_instance, iter_instances = loader.index_with, loader._index_instance, loader.iter_instances

    @contextmanager
    def data_named(self: Any) -> Iterator[None]:
        try:
            yield
        except KeyError as error:
            from regattn_allennlp.data.labels import UnknownLabelError

            if isinstance(error, UnknownLabelError):
                raise error.within(self.data_path) from error.__cause__
            raise

    @functools.wraps(index_with)
    def index_with_and_name_the_data(self: Any, vocab: Any) -> None:
        with data_named(self):
            index_with(self, vocab)

    @functools.wraps(index_instance)
    def index_instance_and_name_the_data(self: Any, instance: Any) -> Any:
        with data_named(self):
            return index_instance(self, instance)

    @functools.wraps(iter_instances)
    def iter_instances_and_name_the_data(self: Any) -> Iterator[Any]:
        with data_named(self):
            yield from iter_instances(self)

    loader.index_with = index_with_and_name_the_data
    loader._index_instance = index_instance_and_name_the_data
    loader.iter_instances = iter_instances_and_name_the_data


def _answers_are_missing(data_loader: Any) -> Exception:
    from allennlp.common.checks import ConfigurationError

    data = getattr(data_loader, "data_path", "The data")
    return ConfigurationError(
        f"{data}: no item says what is right for it, such as a label or an answer. So there is nothing to train on "
        "or to evaluate."
    )


def _has_a_loss(model: Any) -> bool:
    # Other models than this package's may have a loss in training alone, or none at all.
    from regattn_allennlp.models import AttentionModel

    return isinstance(model, AttentionModel)


@mend(
    "allennlp.evaluation.evaluator",
    puts_back="`evaluate` refuses data without labels, answers or gold links, with models of this package",
    versions="allennlp==2.10.1",
    test="tests/compatibility/unusable_data_test.py::test_data_without_answers_are_refused",
)
def refuse_to_evaluate_without_answers(evaluator: Any) -> None:
    call = evaluator.SimpleEvaluator.__call__

    @functools.wraps(call)
    def evaluate(self: Any, model: Any, data_loader: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        metrics = call(self, model, data_loader, *args, **kwargs)
        # Alignments are measured by gold links, which data without labels may have.
        is_measured = "loss" in metrics or any(name.endswith("alignment_error_rate") for name in metrics)
        if not is_measured and _has_a_loss(model):
            raise _answers_are_missing(data_loader)
        return metrics

    evaluator.SimpleEvaluator.__call__ = evaluate


@mend(
    "allennlp.training.gradient_descent_trainer",
    puts_back="`train` refuses data without labels or answers, with models of this package",
    versions="allennlp==2.10.1",
    test="tests/compatibility/unusable_data_test.py::test_data_without_answers_are_refused",
)
def refuse_to_train_without_answers(gradient_descent_trainer: Any) -> None:
    trainer = gradient_descent_trainer.GradientDescentTrainer
    outputs, validation_loss = trainer.batch_outputs, trainer._validation_loss

    @functools.wraps(outputs)
    def batch_outputs(self: Any, batch: Any, for_training: bool) -> dict[str, Any]:
        try:
            return outputs(self, batch, for_training)
        except RuntimeError as error:
            if isinstance(error.__context__, AssertionError) and _has_a_loss(self.model):
                raise _answers_are_missing(self.data_loader) from error
            raise

    @functools.wraps(validation_loss)
    def validate(self: Any, epoch: int) -> Any:
        result = validation_loss(self, epoch)
        # The last is the number of the batches that have a loss.
        if result[-1] == 0 and _has_a_loss(self.model):
            raise _answers_are_missing(self._validation_data_loader)
        return result

    trainer.batch_outputs, trainer._validation_loss = batch_outputs, validate
