from regattn_allennlp.data.dataset_readers.entailment import EntailmentDatasetReader as EntailmentDatasetReader
from regattn_allennlp.data.dataset_readers.graphs import GraphsDatasetReader as GraphsDatasetReader
from regattn_allennlp.data.dataset_readers.sequence_pairs import (
    SequencePairsDatasetReader as SequencePairsDatasetReader,
)
from regattn_allennlp.data.dataset_readers.vqa import VqaDatasetReader as VqaDatasetReader
