local deng2018 = import '../common/deng2018.libsonnet';

deng2018.variational({ type: 'wake_sleep', num_samples: 5 })
