local entailment_transformer = import '../common/entailment_transformer.libsonnet';

// Of 12 layers with 12 heads each, in two sentences, the distances are added up: the weight is accordingly small.
entailment_transformer({ type: 'softmax', gamma: 1.0 }, { type: 'conditional_transport', weight: 0.01 })
