local sample = import '../common/sample.libsonnet';

sample({ type: 'softmax', gamma: 1.0 })
