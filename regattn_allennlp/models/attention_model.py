from typing import Any, ClassVar

from allennlp.data import Vocabulary
from allennlp.models import Model

from regattn_allennlp.modules.alignment_regularizer import observe_alignment
from regattn_allennlp.modules.self_attention_record import self_attention_layers
from regattn_allennlp.training.metrics import ItemAverage


class AttentionModel(Model):
    """
    What the commands of this package ask of a model, whatever its task.

    In `forward`, each of the `attention_directions`, say "target_to_source", has its weights in the output, as
    "target_to_source_attention", of shape (batch_size, num_rows, num_columns): the rows attend, here the target's
    words, to the columns, the source's; each row's weights sum to 1. In `get_metrics(reset=True)` each has all that
    `AttentionStatistics` tells, as "target_to_source_zeros" and so on.

    When the model is not training, and the input has what is right, "item_scores" of the output, of shape
    (batch_size,), says how right the model is on each item: from 0 to 1, the higher the better.

    If layers of self-attention in the model carry an `AlignmentRegularizer`, what they add is in the output too: as
    "alignment_loss", weight * D, and "alignment_distance", D, beside a "loss". In training "loss" includes it; in
    evaluation it is the task's alone, so that models with and without can be compared.

    What has self-attention in it, if the config says so, stands in `self_attention_directions`, by the names of the
    attributes: what attends to what each time that it is applied, in this order, as "premise_to_premise". Layers are
    numbered from 0 on in the order of `named_modules`, which has to be that of their application.
    """

    attention_directions: ClassVar[tuple[str, ...]]
    self_attention_directions: ClassVar[dict[str, tuple[str, ...]]] = {}

    def __init__(self, vocab: Vocabulary, **kwargs: Any) -> None:
        super().__init__(vocab, **kwargs)
        self._alignment = {"alignment_loss": ItemAverage(), "alignment_distance": ItemAverage()}

    def __call__(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        with observe_alignment(self) as observation:
            output: dict[str, Any] = super().__call__(*args, **kwargs)
        losses = observation.losses() if "loss" in output else None
        if losses is not None:
            if self.training:
                output["loss"] = output["loss"] + losses[0]
            for (name, average), value in zip(self._alignment.items(), losses, strict=True):
                output[name] = value.detach()
                average(output[name])
        return output

    def self_attention_layers(self) -> dict[str, dict[str, int]]:
        """For each direction that there is self-attention in, the numbers of heads by the layers' names."""
        layers: dict[str, dict[str, int]] = {}
        for name, num_heads in self_attention_layers(self).items():
            for direction in self.self_attention_directions.get(name.partition(".")[0], ()):
                layers.setdefault(direction, {})[name] = num_heads
        return layers

    @property
    def given_distributions(self) -> tuple[str, ...]:
        """
        Of a given target, which weights can be told: "prior", the attention; of a model with a latent alignment
        "posterior", what they are once the target is known; and "approximate_posterior", what its inference network
        holds that to be. See `LatentAlignment.distributions`.
        """
        return ("prior",)

    def alignment_metrics(self, reset: bool = False) -> dict[str, float]:
        """
        For `get_metrics`: "alignment_loss" and "alignment_distance", the means over the batches; none where nothing is
        regularized.
        """
        return {name: average.get_metric(reset) for name, average in self._alignment.items() if average.count}

    @property
    def compared_metrics(self) -> tuple[str, ...]:
        """
        The names, as in `get_metrics`, of what models of this task are compared by. "item_scores" belong to the
        first: an item's accuracy, an item's BLEU; 1 less an item's error, at least 0, where the name of the first ends
        in "_error_rate", of which low is good.
        """
        raise NotImplementedError
