from typing import Any, Optional

from regattn_allennlp.compatibility.training_state.epoch_losses import EpochLosses
from regattn_allennlp.compatibility.training_state.metric_states import metric_states, set_metric_states
from regattn_allennlp.compatibility.training_state.random_states import random_states, set_random_states


class Progress:
    """
    What a trainer's own state leaves out of how far it has come: the random states, by which it draws the same batches
    and masks again; and in the middle of an epoch what was counted of it.

    # Parameters

    trainer : `GradientDescentTrainer`
    """

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        # At the start of each epoch, and of its validation: a data loader may go on from what it drew before.
        self._epoch_starts: list[Optional[dict[str, Any]]] = []
        self._validation_starts: dict[int, dict[str, Any]] = {}
        self._checkpoint: Optional[dict[str, Any]] = None
        EpochLosses.of(trainer.model).before = (0.0, 0.0)

    @classmethod
    def of(cls, trainer: Any) -> "Progress":
        """The trainer's, from its first epoch on."""
        if trainer._progress is None:
            trainer._progress = cls(trainer)
        return trainer._progress

    def state_dict(self) -> dict[str, Any]:
        trainer = self._trainer
        state = {
            "epoch_starts": self._epoch_starts,
            "validation_starts": self._validation_starts,
            "random_states": random_states(trainer.cuda_device),
            "grad_scaler": None if trainer._scaler is None else trainer._scaler.state_dict(),
        }
        if trainer._batches_in_epoch_completed > 0:
            state["metrics"] = metric_states(trainer.model)
            state["losses"] = EpochLosses.of(trainer.model).so_far
        return state

    def load_state_dict(self, state: Optional[dict[str, Any]]) -> None:
        """Takes the state of a checkpoint, or `None` where an older version wrote it, which kept none."""
        trainer = self._trainer
        if state is None:
            is_within_an_epoch = trainer._start_after_batches_in_epoch_completed > 0
            self._epoch_starts = [None] * (trainer._start_after_epochs_completed + is_within_an_epoch)
        else:
            self._epoch_starts = state["epoch_starts"]
            self._validation_starts = state["validation_starts"]
            self._checkpoint = state
            if state["grad_scaler"] and trainer._scaler is not None:
                trainer._scaler.load_state_dict(state["grad_scaler"])

    def start_epoch(self, epoch: int) -> None:
        """Called before an epoch draws anything, also where it is only read again up to the checkpoint."""
        device = self._trainer.cuda_device
        if epoch < len(self._epoch_starts):
            states = self._epoch_starts[epoch]
            if states is not None:
                set_random_states(states, device)
        else:
            self.go_on()
            self._epoch_starts.append(random_states(device))

    def start_validation(self, epoch: int) -> None:
        """Called before a validation draws anything."""
        self._validation_starts[epoch] = random_states(self._trainer.cuda_device)

    def skip_validation(self, epoch: int) -> None:
        """Called where an epoch was only read again: reads what it was validated on, if it was."""
        states = self._validation_starts.get(epoch)
        if states is not None:
            set_random_states(states, self._trainer.cuda_device)
            for _ in self._trainer._validation_data_loader:
                pass

    def go_on(self) -> None:
        """Called where the checkpoint was written that the training goes on from."""
        checkpoint, self._checkpoint = self._checkpoint, None
        if checkpoint is None:
            return
        trainer = self._trainer
        set_random_states(checkpoint["random_states"], trainer.cuda_device)
        if "metrics" in checkpoint:
            set_metric_states(trainer.model, checkpoint["metrics"], trainer.cuda_device)
            EpochLosses.of(trainer.model).before = tuple(checkpoint["losses"])
