local snli = import '../common/snli.libsonnet';

snli({ type: 'sparsemax', gamma: 1.0 })
