from regattn_allennlp.data.fields.nodes_field import NodesField
from regattn_allennlp.data.fields.regions_field import RegionsField

__all__ = ["NodesField", "RegionsField"]
