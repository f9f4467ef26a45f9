local snli = import '../common/snli.libsonnet';

snli({ type: 'fusedmax', gamma: 1.0, lam: 0.1 })
