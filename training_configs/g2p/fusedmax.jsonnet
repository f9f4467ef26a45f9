local g2p = import '../common/g2p.libsonnet';

g2p({ type: 'fusedmax', gamma: 1.0, lam: 0.1 })
