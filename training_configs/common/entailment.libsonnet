// Training of the decomposable attention model (Parikh et al. 2016), all but the attention and the data.
{
  // attention: the block of the model's `attention`
  // data: {train, validation} paths as the "entailment" reader takes them
  // words: {embedding, dim, std} the block of the "tokens" embedder, what dimension it gives, and the standard
  //   deviation its vectors start with where they are learned
  // hidden_dim: the size of all hidden layers
  // trainer: fields of the trainer
  // data_loader, model: fields of these besides
  entailment(attention, data, words, hidden_dim, dropout, batch_size, trainer, data_loader={}, model={})::
    local feedforward(input_dim) = {
      input_dim: input_dim,
      num_layers: 2,
      hidden_dims: hidden_dim,
      activations: 'relu',
      dropout: dropout,
    };
    {
      random_seed: 13370,
      numpy_seed: 1337,
      pytorch_seed: 133,
      dataset_reader: {
        type: 'entailment',
        tokenizer: { type: 'spacy_language', language: 'en' },
        token_indexers: { tokens: { type: 'single_id', lowercase_tokens: true } },
      },
      train_data_path: data.train,
      validation_data_path: data.validation,
      model: {
        type: 'regularized_decomposable_attention',
        text_field_embedder: { token_embedders: { tokens: words.embedding } },
        attention: attention,
        attend_feedforward: feedforward(words.dim),
        compare_feedforward: feedforward(2 * words.dim),
        aggregate_feedforward: feedforward(2 * hidden_dim),
        initializer: {
          regexes: [
            ['.*_feedforward._linear_layers.*weight', { type: 'xavier_normal' }],
            ['_label_layer.weight', { type: 'xavier_normal' }],
          ] + if std.objectHas(words, 'std') then [
            ['.*token_embedder_tokens.weight', { type: 'normal', std: words.std }],
          ] else [],
        },
      } + model,
      data_loader: {
        batch_sampler: { type: 'bucket', batch_size: batch_size, sorting_keys: ['premise', 'hypothesis'] },
      } + data_loader,
      trainer: { validation_metric: '+accuracy' } + trainer,
    },
}
