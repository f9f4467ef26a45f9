local summarization = import '../common/summarization.libsonnet';

summarization({ type: 'fusedmax', gamma: 1.0, lam: 0.1 })
