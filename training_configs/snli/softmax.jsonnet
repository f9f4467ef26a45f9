local snli = import '../common/snli.libsonnet';

snli({ type: 'softmax', gamma: 1.0 })
