local snli = import '../common/snli.libsonnet';

snli({ type: 'oscarmax', gamma: 1.0, lam: 0.1 })
