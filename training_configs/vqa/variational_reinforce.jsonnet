local scenes = import '../common/scenes.libsonnet';
local inference_network = (import '../common/vqa.libsonnet').inference_network;

scenes(
  { type: 'softmax', gamma: 1.0 },
  { type: 'variational', estimator: 'reinforce', inference_network: inference_network },
)
