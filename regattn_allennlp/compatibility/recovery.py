"""Trainings that are gone on with (`allennlp train --recover`)."""

import functools
import json
import os
from pathlib import Path
from typing import Any, Optional

from regattn_allennlp.compatibility.mend import mend
from regattn_allennlp.compatibility.training_state.epoch_losses import EpochLosses
from regattn_allennlp.compatibility.training_state.interrupted_epoch import InterruptedEpoch
from regattn_allennlp.compatibility.training_state.plain_numbers import plain
from regattn_allennlp.compatibility.training_state.progress import Progress

TRAINER = "allennlp.training.gradient_descent_trainer"
# In the training state, one for each process.
PROGRESS_KEY = "regattn_allennlp_progress"


@mend(
    TRAINER,
    puts_back="Training states load again whatever numbers of numpy schedulers and metrics put into them",
    versions="torch>=2.6",
    test="tests/compatibility/recovery_test.py::test_a_metric_of_numpy_is_no_hindrance",
)
def keep_numbers_of_python(trainers: Any) -> None:
    # `torch.load` takes numbers of Python alone.
    get_checkpoint_state = trainers.GradientDescentTrainer.get_checkpoint_state

    @functools.wraps(get_checkpoint_state)
    def get_checkpoint_state_of_plain_numbers(self: Any) -> Any:
        checkpoint = get_checkpoint_state(self)
        return checkpoint and checkpoint._replace(trainer_state=plain(checkpoint.trainer_state))

    trainers.GradientDescentTrainer.get_checkpoint_state = get_checkpoint_state_of_plain_numbers


@mend(
    TRAINER,
    puts_back="A training that recovers draws the batches and the dropout that it would have drawn uninterrupted",
    versions="allennlp==2.10.1",
    test="tests/compatibility/recovery_test.py::test_a_killed_training_ends_with_the_numbers_of_an_uninterrupted_one",
)
def keep_the_progress(trainers: Any) -> None:
    trainer_class = trainers.GradientDescentTrainer
    get_checkpoint_state = trainer_class.get_checkpoint_state
    restore_checkpoint = trainer_class._maybe_restore_checkpoint
    train_epoch = trainer_class._train_epoch
    validation_loss = trainer_class._validation_loss

    @functools.wraps(get_checkpoint_state)
    def get_checkpoint_state_with_progress(self: Any) -> Any:
        progress = _of_all_processes(Progress.of(self).state_dict())
        checkpoint = get_checkpoint_state(self)
        if checkpoint is not None:
            checkpoint.trainer_state[PROGRESS_KEY] = progress
        return checkpoint

    @functools.wraps(restore_checkpoint)
    def restore_checkpoint_with_progress(self: Any) -> None:
        self._progress = Progress(self)
        if self._checkpointer is None:
            restore_checkpoint(self)
            return
        checkpoint = self._checkpointer.load_checkpoint()
        self._checkpointer.load_checkpoint = lambda: checkpoint
        try:
            restore_checkpoint(self)
        finally:
            del self._checkpointer.load_checkpoint
        if checkpoint is not None:
            states = checkpoint.trainer_state.get(PROGRESS_KEY, [])
            is_of_as_many = len(states) == self._world_size
            self._progress.load_state_dict(states[self._checkpointer._rank] if is_of_as_many else None)

    @functools.wraps(train_epoch)
    def train_epoch_with_progress(self: Any, epoch: int) -> dict[str, Any]:
        progress = Progress.of(self)
        progress.start_epoch(epoch)
        if epoch < self._start_after_epochs_completed:
            metrics = train_epoch(self, epoch)
            progress.skip_validation(epoch)
            return metrics
        num_groups = self._start_after_batches_in_epoch_completed
        if epoch > self._start_after_epochs_completed or num_groups == 0:
            return train_epoch(self, epoch)
        data_loader = self.data_loader
        num_batches = num_groups * self._num_gradient_accumulation_steps
        self.data_loader = InterruptedEpoch(data_loader, num_batches, progress.go_on)
        try:
            metrics = train_epoch(self, epoch)
        finally:
            self.data_loader = data_loader
        if "loss" not in metrics:  # the last batch of the epoch was the last before the checkpoint
            metrics = {**_metrics_of_no_more_batches(trainers, self), **metrics}
        return metrics

    @functools.wraps(validation_loss)
    def validation_loss_with_progress(self: Any, epoch: int) -> Any:
        Progress.of(self).start_validation(epoch)
        return validation_loss(self, epoch)

    trainer_class._progress = None
    trainer_class.get_checkpoint_state = get_checkpoint_state_with_progress
    trainer_class._maybe_restore_checkpoint = restore_checkpoint_with_progress
    trainer_class._train_epoch = train_epoch_with_progress
    trainer_class._validation_loss = validation_loss_with_progress


def _of_all_processes(value: Any) -> list[Any]:
    from allennlp.common.util import is_distributed
    from torch import distributed

    if not is_distributed():
        return [value]
    values: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values


def _metrics_of_no_more_batches(trainers: Any, trainer: Any) -> dict[str, Any]:
    reg_loss = None if trainer.model.get_regularization_penalty() is None else 0.0
    return trainers.training_util.get_metrics(
        trainer.model,
        0.0,
        reg_loss,
        batch_loss=None,
        batch_reg_loss=None,
        num_batches=trainers.dist_reduce_sum(trainer._batches_in_epoch_completed),
        reset=True,
    )


@mend(
    "allennlp.training.util",
    puts_back="The training loss of an epoch that was interrupted is of all its batches",
    versions="allennlp==2.10.1",
    test="tests/compatibility/recovery_test.py::test_a_checkpoint_in_the_middle_of_an_epoch",
)
def count_the_losses_before_an_interruption(util: Any) -> None:
    get_metrics = util.get_metrics

    @functools.wraps(get_metrics)
    def get_metrics_of_the_whole_epoch(
        model: Any, total_loss: float, total_reg_loss: Optional[float], *arguments: Any, **options: Any
    ) -> dict[str, Any]:
        is_last = options.get("reset", False)
        total_loss, total_reg_loss = EpochLosses.of(model).add_those_before(total_loss, total_reg_loss, is_last)
        return get_metrics(model, total_loss, total_reg_loss, *arguments, **options)

    util.get_metrics = get_metrics_of_the_whole_epoch


@mend(
    TRAINER,
    puts_back="A training that was over and is recovered stays as it is, also one that ran out of patience",
    versions="allennlp==2.10.1",
    test="tests/compatibility/recovery_test.py::test_a_training_that_is_over_stays_as_it_is",
)
def leave_a_training_that_is_over(trainers: Any) -> None:
    trainer_class = trainers.GradientDescentTrainer
    try_train = trainer_class._try_train

    @functools.wraps(try_train)
    def try_train_unless_over(self: Any) -> tuple[dict[str, Any], int]:
        epochs_completed = self._start_after_epochs_completed
        is_out_of_patience = (
            self._start_after_batches_in_epoch_completed == 0 and self._metric_tracker.should_stop_early()
        )
        if epochs_completed == 0 or not (is_out_of_patience or epochs_completed >= self._num_epochs):
            return try_train(self)
        num_epochs = self._num_epochs
        self._num_epochs = 0
        try:
            metrics, _ = try_train(self)  # loads the best weights
        finally:
            self._num_epochs = num_epochs
        path = Path(self._serialization_dir or "", f"metrics_epoch_{epochs_completed - 1}.json")
        if path.exists():
            metrics = json.loads(path.read_text())
        return metrics, epochs_completed - 1

    trainer_class._try_train = try_train_unless_over


@mend(
    TRAINER,
    puts_back="The weights of the best epoch are in `best.th` wherever the training was killed or its folder moved",
    versions="allennlp==2.10.1",
    test="tests/compatibility/recovery_test.py::test_the_best_weights_survive_a_kill_before_they_are_written",
)
def restore_the_best_weights(trainers: Any) -> None:
    trainer_class = trainers.GradientDescentTrainer
    try_train = trainer_class._try_train

    @functools.wraps(try_train)
    def try_train_from_the_best_weights(self: Any) -> tuple[dict[str, Any], int]:
        # The state was written before the weights of its epoch became the best, so its word for them may be missing.
        if self._serialization_dir and self._metric_tracker.best_epoch is not None:
            is_sharded = self._ddp_wrapped_model is not None and self._ddp_wrapped_model.is_sharded
            best = os.path.join(self._serialization_dir, f"best_w{self._rank}.th" if is_sharded else "best.th")
            is_best = (
                self._start_after_epochs_completed > 0
                and self._start_after_batches_in_epoch_completed == 0
                and self._should_validate_this_epoch
                and self._metric_tracker.is_best_so_far()
            )
            if is_best and (is_sharded or self._primary):
                _save_weights(self, best)
            if is_best or os.path.exists(best):
                self._best_model_filename = best
        return try_train(self)

    trainer_class._try_train = try_train_from_the_best_weights


def _save_weights(trainer: Any, path: str) -> None:
    if trainer._moving_average is None:
        trainer._save_model_state(path)
        return
    trainer._moving_average.assign_average_value()
    try:
        trainer._save_model_state(path)
    finally:
        trainer._moving_average.restore()


@mend(
    "allennlp.training.moving_average",
    puts_back="A moving average goes on with the model's parameters when a training recovers",
    versions="allennlp==2.10.1",
    test="tests/compatibility/recovery_test.py::test_a_moving_average_goes_on_with_the_parameters_of_the_model",
)
def average_the_parameters_of_the_model(moving_average: Any) -> None:
    # AllenNLP takes those of the file for the parameters that it averages.
    def load_state_dict(self: Any, state_dict: dict[str, Any]) -> None:
        for mine, saved in (self._shadows, state_dict["shadows"]), (self._backups, state_dict["backups"]):
            for name, value in saved.items():
                mine[name].copy_(value)

    moving_average.MovingAverage.load_state_dict = load_state_dict


@mend(
    "allennlp.training.callbacks.should_validate",
    puts_back="A training that recovers validates in the epochs that `should_validate_callback` asks for",
    versions="allennlp==2.10.1",
    test="tests/compatibility/recovery_test.py::test_callbacks_know_the_epoch_that_is_gone_on_with",
)
def validate_in_the_epochs_asked_for(should_validate: Any) -> None:
    callback = should_validate.ShouldValidateCallback
    on_start = callback.on_start

    @functools.wraps(on_start)
    def on_start_of_an_epoch(self: Any, trainer: Any, *arguments: Any, **options: Any) -> None:
        on_start(self, trainer, *arguments, **options)
        trainer._should_validate_this_epoch = self._should_validate(epoch=trainer._start_after_epochs_completed)

    callback.on_start = on_start_of_an_epoch


@mend(
    "allennlp.training.callbacks.track_epoch",
    puts_back="A model that reads its `epoch` knows it after a recovery",
    versions="allennlp==2.10.1",
    test="tests/compatibility/recovery_test.py::test_callbacks_know_the_epoch_that_is_gone_on_with",
)
def track_the_epoch_that_is_gone_on_with(track_epoch: Any) -> None:
    callback = track_epoch.TrackEpochCallback
    on_start = callback.on_start

    @functools.wraps(on_start)
    def on_start_of_an_epoch(self: Any, trainer: Any, *arguments: Any, **options: Any) -> None:
        on_start(self, trainer, *arguments, **options)
        trainer.model.epoch = trainer._start_after_epochs_completed

    callback.on_start = on_start_of_an_epoch


@mend(
    "allennlp.training.callbacks.confidence_checks",
    puts_back="The checks of the first batch are not left on the model in a training that recovers",
    versions="allennlp==2.10.1",
    test="tests/compatibility/recovery_test.py::test_callbacks_know_the_epoch_that_is_gone_on_with",
)
def check_a_first_batch_alone(confidence_checks: Any) -> None:
    callback = confidence_checks.ConfidenceChecksCallback
    on_start = callback.on_start

    @functools.wraps(on_start)
    def on_start_of_a_first_batch(self: Any, trainer: Any, *arguments: Any, **options: Any) -> None:
        # Its hooks are removed after the first batch of the first epoch.
        if trainer._start_after_epochs_completed == 0 and trainer._start_after_batches_in_epoch_completed == 0:
            on_start(self, trainer, *arguments, **options)

    callback.on_start = on_start_of_a_first_batch
