from typing import ClassVar

from allennlp.models import Model


class AttentionModel(Model):
    """
    What the commands of this package ask of a model, whatever its task.

    In `forward`, each of the `attention_directions`, say "target_to_source", has its weights in the output, as
    "target_to_source_attention", of shape (batch_size, num_rows, num_columns): the rows attend, here the target's
    words, to the columns, the source's; each row's weights sum to 1. In `get_metrics(reset=True)` each has all that
    `AttentionStatistics` tells, as "target_to_source_zeros" and so on.

    When the model is not training, and the input has what is right, "item_scores" of the output, of shape
    (batch_size,), says how right the model is on each item: from 0 to 1, the higher the better.
    """

    attention_directions: ClassVar[tuple[str, ...]]

    @property
    def compared_metrics(self) -> tuple[str, ...]:
        """
        The names, as in `get_metrics`, of what models of this task are compared by. "item_scores" belong to the
        first: an item's accuracy, an item's BLEU.
        """
        raise NotImplementedError
