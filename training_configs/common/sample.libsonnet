// The embedded sample: small enough to learn on a laptop in about a minute.
local entailment = (import 'entailment.libsonnet').entailment;
local dim = 100;

function(attention, model={}) entailment(
  attention=attention,
  data={ train: 'sample:train', validation: 'sample:validation' },
  words={ dim: dim, std: 1, embedding: { embedding_dim: dim } },
  hidden_dim=100,
  dropout=0.1,
  batch_size=64,
  trainer={
    num_epochs: 8,
    optimizer: { type: 'adam', lr: 0.001 },
  },
  model=model,
)
