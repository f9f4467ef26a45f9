local deng2018 = import '../common/deng2018.libsonnet';

deng2018.variational({ type: 'gumbel_softmax', temperature: 0.1 })
