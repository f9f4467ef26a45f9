local g2p = import '../common/g2p.libsonnet';

g2p({ type: 'oscarmax', gamma: 1.0, lam: 0.05 })
