// The embedded sample of graphs: small enough to learn on a laptop in about a minute.
function(attention, alignment_regularizer=null) {
  random_seed: 13370,
  numpy_seed: 1337,
  pytorch_seed: 133,
  dataset_reader: { type: 'graphs' },
  train_data_path: 'sample:train',
  validation_data_path: 'sample:validation',
  model: {
    type: 'graph_node_classifier',
    node_feedforward: { input_dim: 16, num_layers: 1, hidden_dims: 64, activations: 'tanh' },
    attention: attention,
    graph_encoder: {
      type: 'graph_attention',
      num_heads: 4,
      feedforward_hidden_dim: 128,
      alignment_regularizer: alignment_regularizer,
    },
  },
  data_loader: { batch_size: 32, shuffle: true },
  trainer: {
    num_epochs: 20,
    validation_metric: '+accuracy',
    optimizer: { type: 'adam', lr: 0.002 },
  },
}
