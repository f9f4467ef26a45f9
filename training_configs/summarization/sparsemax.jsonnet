local summarization = import '../common/summarization.libsonnet';

summarization({ type: 'sparsemax', gamma: 1.0 })
