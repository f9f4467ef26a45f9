from typing import Any, ClassVar, Optional

import torch
from allennlp.common import Lazy
from allennlp.common.checks import ConfigurationError, check_dimensions_match
from allennlp.data import Vocabulary
from allennlp.models import Model
from allennlp.modules import FeedForward
from allennlp.modules.attention import Attention
from allennlp.nn import InitializerApplicator

from regattn_allennlp.models.attention_model import AttentionModel
from regattn_allennlp.modules.attention import learned_regularization
from regattn_allennlp.modules.graph_encoders import GraphEncoder
from regattn_allennlp.training.metrics import AttentionStatistics, ItemAverage


@Model.register("graph_node_classifier")
class GraphNodeClassifier(AttentionModel):
    """
    Classifies the nodes of graphs by attention over their neighbors, as in Velickovic et al. 2018 (arXiv 1710.10903),
    with any of this package's attentions:

    embed:     each node's features go through a feedforward;
    attend:    each node attends to its neighbors, in one or several layers;
    classify:  a linear layer makes the probabilities of the node's label.

    It learns from the nodes whose label is known and counts, and is measured on those. They may be of other graphs
    than those that it predicts, or others of the same graph.

    Registered as a `Model` with name "graph_node_classifier".

    # Parameters

    vocab : `Vocabulary`
    node_feedforward : `FeedForward`
        From a node's features to what the encoder takes.
    attention : `Attention`
        Any of this package's. To compare attentions, change this block and nothing else. Each layer of the encoder has
        one of its own.
    graph_encoder : `GraphEncoder`
        How the nodes attend; it is constructed with the `attention`, and with the feedforward's output dimension as
        its `input_dim`. For alignment attention, it has an `alignment_regularizer`.
    dropout : `float`, optional (default = `0.0`)
        The probability of dropping each number of the features.
    label_namespace : `str`, optional (default = `"node_labels"`)
    initializer : `InitializerApplicator`, optional (default = PyTorch's own initial weights)

    # Raises

    `ConfigurationError`
        If the encoder's block has an "attention" besides; while the model runs, for features of another dimension than
        the feedforward takes.
    """

    default_predictor = "graphs"
    attention_directions = ("node_to_neighbors",)
    self_attention_directions: ClassVar[dict[str, tuple[str, ...]]] = {"_graph_encoder": ("node_to_neighbors",)}

    def __init__(
        self,
        vocab: Vocabulary,
        node_feedforward: FeedForward,
        attention: Lazy[Attention],
        graph_encoder: Lazy[GraphEncoder],
        dropout: float = 0.0,
        label_namespace: str = "node_labels",
        initializer: Optional[InitializerApplicator] = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(vocab, **kwargs)
        # AllenNLP would take that one, with no more than a warning.
        if "attention" in graph_encoder._params:
            raise ConfigurationError('"graph_encoder" has an "attention": it takes the model\'s, beside it')
        self._node_feedforward = node_feedforward
        self._graph_encoder = graph_encoder.construct(input_dim=node_feedforward.get_output_dim(), attention=attention)
        check_dimensions_match(
            node_feedforward.get_output_dim(),
            self._graph_encoder.get_input_dim(),
            "node_feedforward's output",
            "graph_encoder's input",
        )
        self._dropout = torch.nn.Dropout(dropout)
        self._label_namespace = label_namespace
        self._label_layer = torch.nn.Linear(
            self._graph_encoder.get_output_dim(), vocab.get_vocab_size(label_namespace)
        )
        self._accuracy = ItemAverage()
        self._attention_statistics = AttentionStatistics()
        if initializer is not None:
            initializer(self)

    @property
    def compared_metrics(self) -> tuple[str, ...]:
        return ("accuracy",)

    @property
    def node_dim(self) -> int:
        """The dimension of the nodes' features."""
        return self._node_feedforward.get_input_dim()

    def forward(  # type: ignore[override]
        self,
        nodes: dict[str, torch.Tensor],
        adjacency: torch.Tensor,
        node_labels: Optional[torch.Tensor] = None,
        metadata: Optional[list[dict[str, Any]]] = None,
    ) -> dict[str, Any]:
        """
        # Parameters

        nodes : `Dict[str, torch.Tensor]`
            Of a `NodesField`: "features", of shape (batch_size, num_nodes, node_dim), and "mask", of shape
            (batch_size, num_nodes), which nodes there are.
        adjacency : `torch.Tensor`
            Shape (batch_size, num_nodes, num_nodes): not 0 where the row's node is reached by an edge from the
            column's.
        node_labels : `torch.LongTensor`, optional
            Shape (batch_size, num_nodes): below 0 where there is none, or none that counts.

        # Returns

        node_to_neighbors_attention : shape (batch_size, num_nodes, num_nodes)
            The mean over the heads of the last layer. Each row sums to 1, or to 0 where a node has nothing to attend
            to.
        node_probs : shape (batch_size, num_nodes, num_labels)
        loss : scalar
            If `node_labels` are given: the mean of -log of the label's probability, over the nodes that count of all
            graphs, in nats.
        item_scores : shape (batch_size,)
            If `node_labels` are given and the model is not training: of each graph, the fraction of the nodes that
            count whose most probable label is right.
        id, node_names, num_nodes
            The metadata, if it is given.
        """
        features, mask = nodes["features"], nodes["mask"]
        if features.size(-1) != self.node_dim:
            raise ConfigurationError(
                f'the nodes have {features.size(-1)} features each, but "node_feedforward" takes {self.node_dim}'
            )
        adjacency = adjacency != 0
        # Shape: (batch_size, num_nodes, encoder_dim), (batch_size, num_heads, num_nodes, num_nodes)
        encoded, weights_of_heads = self._graph_encoder(
            self._node_feedforward(self._dropout(features)), adjacency, mask
        )
        weights = weights_of_heads.mean(dim=1)
        self._attention_statistics(weights, self._graph_encoder.attended(adjacency, mask))
        # Shape: (batch_size, num_nodes, num_labels)
        log_probs = self._label_layer(encoded).log_softmax(dim=-1)
        output: dict[str, Any] = {"node_to_neighbors_attention": weights, "node_probs": log_probs.exp()}
        for key in metadata[0] if metadata else ():
            output[key] = [item[key] for item in metadata or ()]
        if node_labels is not None:
            counted = node_labels >= 0
            right = (log_probs.argmax(dim=-1) == node_labels) & counted
            self._accuracy(right[counted])
            of_labels = log_probs.gather(2, node_labels.clamp(min=0).unsqueeze(2)).squeeze(2)
            output["loss"] = -(of_labels * counted).sum() / counted.sum().clamp(min=1)
            if not self.training:
                output["item_scores"] = right.sum(dim=1) / counted.sum(dim=1).clamp(min=1)
        return output

    def make_output_human_readable(self, output_dict: dict[str, Any]) -> dict[str, Any]:
        """
        Adds "node_labels", the most probable label of each node, and "probabilities", of each node those of all labels
        by name; cuts everything to the nodes that there are, if the metadata is there to tell their number.
        """
        names = self.vocab.get_index_to_token_vocabulary(self._label_namespace)
        numbers = output_dict.get("num_nodes", [output_dict["node_probs"].size(1)] * len(output_dict["node_probs"]))
        for key in ("node_probs", "node_to_neighbors_attention"):
            output_dict[key] = [
                of_graph[:number].detach().cpu().numpy()
                for of_graph, number in zip(output_dict[key], numbers, strict=True)
            ]
        output_dict["node_to_neighbors_attention"] = [
            weights[:, :number]
            for weights, number in zip(output_dict["node_to_neighbors_attention"], numbers, strict=True)
        ]
        output_dict["node_labels"] = [
            [names[index] for index in probs.argmax(axis=1).tolist()] for probs in output_dict["node_probs"]
        ]
        output_dict["probabilities"] = [
            [{names[index]: one for index, one in enumerate(of_node)} for of_node in probs.tolist()]
            for probs in output_dict["node_probs"]
        ]
        return output_dict

    def get_metrics(self, reset: bool = False) -> dict[str, float]:
        """
        "accuracy": the fraction of the nodes that count, of all graphs, whose most probable label is right.

        How sparse and structured the attention is, by the names of `AttentionStatistics`: "node_to_neighbors_zeros"
        and so on, over the nodes that each may attend to. What an attention learns of its regularization follows by
        the attention's name; with alignment attention there are "alignment_loss" and "alignment_distance". Without
        `reset`, as AllenNLP asks after each batch, there are of the statistics the zeros alone.
        """
        return {
            "accuracy": self._accuracy.get_metric(reset),
            **{
                f"node_to_neighbors_{name}": value
                for name, value in self._attention_statistics.get_metric(reset).items()
                if reset or name == "zeros"
            },
            **self.alignment_metrics(reset),
            **learned_regularization(self),
        }
