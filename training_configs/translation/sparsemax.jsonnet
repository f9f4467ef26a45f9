local translation = import '../common/translation.libsonnet';

translation({ type: 'sparsemax', gamma: 1.0 })
