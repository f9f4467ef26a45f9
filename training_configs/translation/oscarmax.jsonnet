local translation = import '../common/translation.libsonnet';

translation({ type: 'oscarmax', gamma: 1.0, lam: 0.05 })
