import math
from typing import Any

import numpy as np
import torch
from allennlp.common.checks import ConfigurationError
from allennlp.common.util import JsonDict
from allennlp.data import Instance
from allennlp.data.fields import LabelField, ListField
from allennlp.predictors import Predictor

from regattn_allennlp.data.graph import Graph, checked_graph
from regattn_allennlp.predictors.attention_predictor import Answer, AttentionPredictor
from regattn_allennlp.visualization.attention_map import is_right_to_left
from regattn_allennlp.visualization.equal_weights import equal_groups


@Predictor.register("graphs")
class GraphsPredictor(AttentionPredictor):
    """
    Predicts the labels of nodes from JSON lines with the keys "nodes" and "edges" and, if wanted, "names" and "id", as
    `GraphsDatasetReader` takes them; labels in the line are not looked at.

    Each line of output has, for each node in order, "node_labels"; "probabilities" of all labels by name;
    "node_probs", the same by the vocabulary's numbers; "node_to_neighbors_attention", a list with the node's weights
    over all nodes; and "id", "node_names" and "num_nodes", empty where not known. What `AttentionPredictor` adds as
    "self_attention" is in the direction "node_to_neighbors" too, there of each layer and head.

    Registered as a `Predictor` with name "graphs".
    """

    required_keys = ("nodes", "edges")
    attacked_field = None

    def predict(self, nodes: list[list[float]], edges: list[list[int]]) -> JsonDict:
        """The labels of one graph's nodes."""
        return self.predict_json({"nodes": nodes, "edges": edges})

    def answer(self, prediction: JsonDict) -> Answer:
        """The labels of all nodes in order, and the probability that all are right."""
        labels = prediction["node_labels"]
        of_labels = (of_node[label] for of_node, label in zip(prediction["probabilities"], labels, strict=True))
        return Answer(" ".join(labels), math.prod(of_labels))

    def attention_map(self, prediction: JsonDict, direction: str) -> JsonDict:
        """
        What `visualization.attention_map` tells, with the nodes, by their names or else their numbers, as the rows and
        the columns.
        """
        weights = prediction[f"{direction}_attention"]
        names = self.names(prediction)
        return {
            "rows": names,
            "columns": names,
            "weights": weights,
            "groups": [equal_groups(of_row) for of_row in weights],
            "unknownRows": [],
            "unknownColumns": [],
            "rowTitle": "node",
            "columnTitle": "neighbors",
            "rightToLeft": is_right_to_left(names),
        }

    def names(self, prediction: JsonDict) -> list[str]:
        return prediction["node_names"] or [str(number) for number in range(len(prediction["node_labels"]))]

    def check_input(self, inputs: Any) -> None:
        if not isinstance(inputs, dict):
            raise ConfigurationError(f'a JSON object with "nodes" and "edges" is wanted, not {str(inputs)[:200]}')
        self._graph(inputs)

    def to_instance(self, inputs: JsonDict) -> Instance:
        return self._dataset_reader.text_to_instance(self._graph(inputs))

    def predictions_to_labeled_instances(self, instance: Instance, outputs: JsonDict) -> list[Instance]:
        """A copy of the instance with the most probable labels of "node_probs": for AllenNLP's interpreters."""
        labeled = instance.duplicate()
        numbers = np.argmax(outputs["node_probs"], axis=-1).tolist()
        labels = [LabelField(number, "node_labels", skip_indexing=True) for number in numbers]
        labeled.add_field("node_labels", ListField(labels))
        return [labeled]

    def get_interpretable_layer(self) -> torch.nn.Module:
        """The layer that sees each node by itself: the interpreters tell how much each matters."""
        layers = self._model._node_feedforward.modules()
        return next(layer for layer in layers if isinstance(layer, torch.nn.Linear))

    def get_interpretable_text_field_embedder(self) -> torch.nn.Module:
        return self.get_interpretable_layer()

    def _graph(self, inputs: JsonDict) -> Graph:
        graph = checked_graph({key: value for key, value in inputs.items() if key != "labels"})
        dim = graph.nodes.shape[1]
        if dim != self._model.node_dim:
            raise ConfigurationError(f'"nodes": they have {dim} features each; the model takes {self._model.node_dim}')
        return graph
