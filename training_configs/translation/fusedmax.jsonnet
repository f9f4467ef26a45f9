local translation = import '../common/translation.libsonnet';

translation({ type: 'fusedmax', gamma: 1.0, lam: 0.1 })
