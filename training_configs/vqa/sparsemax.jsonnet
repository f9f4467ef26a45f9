local scenes = import '../common/scenes.libsonnet';

scenes({ type: 'sparsemax', gamma: 1.0 })
