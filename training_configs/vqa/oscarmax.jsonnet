local scenes = import '../common/scenes.libsonnet';

scenes({ type: 'oscarmax', gamma: 1.0, lam: 0.05 })
