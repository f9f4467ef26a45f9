// Questions about generated scenes; the regions see each other by self-attention, whose queries and keys are made alike
// in distribution.
local scenes = import '../common/scenes.libsonnet';
local self_attention = import '../common/self_attention.libsonnet';

scenes({ type: 'softmax', gamma: 1.0 }, region_encoder=self_attention(
  dim=128,
  attention={ type: 'softmax', gamma: 1.0 },
  alignment_regularizer={ type: 'conditional_transport', weight: 0.1 },
))
