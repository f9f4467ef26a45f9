// SNLI with the sizes of Parikh et al. 2016. The environment variable GLOVE chooses the word vectors: the path or
// address of 300-dimensional GloVe vectors, which are then kept fixed and projected; or nothing, to learn them.
local entailment = (import 'entailment.libsonnet').entailment;
local glove = std.extVar('GLOVE');
local dim = 200;

function(attention) entailment(
  attention=attention,
  data={ train: 'stanfordnlp/snli:train', validation: 'stanfordnlp/snli:validation' },
  words={ dim: dim } + if glove == '' then {
    // AllenNLP's own initial vectors are so small that attention is all but flat at first.
    std: 0.4,
    embedding: { embedding_dim: dim },
  } else {
    embedding: { embedding_dim: 300, pretrained_file: glove, trainable: false, projection_dim: dim },
  },
  hidden_dim=200,
  dropout=0.2,
  batch_size=64,
  trainer={
    num_epochs: 16,
    patience: 5,
    optimizer: { type: 'adam', lr: 0.0005 },
  },
  // 550,000 pairs: the tokens stay on disk, for later runs too.
  data_loader={ type: 'cached' },
)
