local scenes = import '../common/scenes.libsonnet';

scenes({ type: 'softmax', gamma: 1.0 }, { type: 'exact' })
