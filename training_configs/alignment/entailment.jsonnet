// Textual entailment with a self-attention encoder, whose queries and keys are made alike in distribution.
local sample = import '../common/sample.libsonnet';
local self_attention = import '../common/self_attention.libsonnet';

sample({ type: 'softmax', gamma: 1.0 }, model={
  encoder: self_attention(
    dim=100,
    attention={ type: 'softmax', gamma: 1.0 },
    alignment_regularizer={ type: 'conditional_transport', weight: 0.1 },
    positions={ max_distance: 10 },
  ),
})
