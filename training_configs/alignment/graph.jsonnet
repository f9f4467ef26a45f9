local graph = import '../common/graph.libsonnet';

graph({ type: 'softmax', gamma: 1.0 }, { type: 'mmd', weight: 0.1 })
