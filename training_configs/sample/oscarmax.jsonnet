local sample = import '../common/sample.libsonnet';

sample({ type: 'oscarmax', gamma: 1.0, lam: 0.1 })
