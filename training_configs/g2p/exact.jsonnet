local g2p = import '../common/g2p.libsonnet';

g2p({ type: 'softmax', gamma: 1.0 }, { type: 'exact' })
