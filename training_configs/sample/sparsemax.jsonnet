local sample = import '../common/sample.libsonnet';

sample({ type: 'sparsemax', gamma: 1.0 })
