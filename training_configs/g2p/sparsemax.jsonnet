local g2p = import '../common/g2p.libsonnet';

g2p({ type: 'sparsemax', gamma: 1.0 })
