local scenes = import '../common/scenes.libsonnet';

scenes({ type: 'fusedmax', gamma: 1.0, lam: 0.1 })
