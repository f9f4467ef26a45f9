local summarization = import '../common/summarization.libsonnet';

summarization({ type: 'softmax', gamma: 1.0 })
