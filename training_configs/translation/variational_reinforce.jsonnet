local translation = import '../common/translation.libsonnet';

translation({ type: 'softmax', gamma: 1.0 }, { type: 'variational', estimator: 'reinforce' })
