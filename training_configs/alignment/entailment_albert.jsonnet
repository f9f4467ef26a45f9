local entailment_transformer = import '../common/entailment_transformer.libsonnet';

entailment_transformer({ type: 'softmax', gamma: 1.0 }, { type: 'conditional_transport', weight: 0.1 })
