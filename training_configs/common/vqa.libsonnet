// Training of the model that answers questions about images; all but the attention, the alignment and the data.
{
  // A question has one answer to align: there are no others to encode it with.
  inference_network:: { encode_targets: false },

  // attention, latent_alignment: the blocks of the model
  // region_encoder: the block of what the regions see each other by, or null
  // reader: fields of the dataset reader besides its type
  // data: {train, validation} paths as the "vqa" reader takes them
  // region_dim: the dimension of the regions' features
  // word_dim, question_dim, value_dim: the sizes of word vectors, the question's vector and the regions' values
  // vocabulary: fields of the vocabulary
  // trainer: fields of the trainer
  // data_loader: fields of the data loader besides its batches
  vqa(
    attention,
    latent_alignment,
    reader,
    data,
    region_dim,
    word_dim,
    question_dim,
    value_dim,
    dropout,
    batch_size,
    trainer,
    region_encoder=null,
    vocabulary={},
    data_loader={},
  )::
    local feedforward(input_dim) = {
      input_dim: input_dim,
      num_layers: 1,
      hidden_dims: value_dim,
      activations: 'relu',
      dropout: dropout,
    };
    {
      random_seed: 13370,
      numpy_seed: 1337,
      pytorch_seed: 133,
      dataset_reader: {
        type: 'vqa',
        tokenizer: { type: 'spacy_language', language: 'en' },
        token_indexers: { tokens: { type: 'single_id', lowercase_tokens: true } },
      } + reader,
      train_data_path: data.train,
      validation_data_path: data.validation,
      vocabulary: vocabulary,
      model: {
        type: 'attentional_vqa',
        text_field_embedder: { token_embedders: { tokens: { embedding_dim: word_dim } } },
        question_encoder: { type: 'gru', input_size: word_dim, hidden_size: question_dim },
        region_feedforward: feedforward(region_dim) { activations: 'tanh' },
        query_feedforward: feedforward(question_dim) { activations: 'linear' },
        attention: attention,
        question_feedforward: feedforward(question_dim) { activations: 'linear' },
        classifier_feedforward: feedforward(value_dim),
        latent_alignment: latent_alignment,
        region_encoder: region_encoder,
        dropout: dropout,
      },
      data_loader: { batch_sampler: { type: 'bucket', batch_size: batch_size, sorting_keys: ['question'] } } + data_loader,
      trainer: { validation_metric: '+accuracy' } + trainer,
    },
}
