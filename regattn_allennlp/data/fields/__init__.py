from regattn_allennlp.data.fields.regions_field import RegionsField

__all__ = ["RegionsField"]
