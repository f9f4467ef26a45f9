from regattn_allennlp.data.dataset_readers.entailment import EntailmentDatasetReader as EntailmentDatasetReader
from regattn_allennlp.data.dataset_readers.sequence_pairs import (
from regattn_allennlp.data.dataset_readers.vqa import VqaDatasetReader as VqaDatasetReader

__all__ = ["(", "EntailmentDatasetReader as EntailmentDatasetReader", "VqaDatasetReader as VqaDatasetReader"]
