local summarization = import '../common/summarization.libsonnet';

summarization({ type: 'oscarmax', gamma: 1.0, lam: 0.05 })
