// Training of an encoder-decoder with attention, all but the attention and the data. The environment variable SUBWORDS
// chooses the tokens: the path of a model of subwords that `allennlp train-subwords` wrote; or nothing, for words.
{
  // attention: the block of the model's `attention`; the decoder's states have the dimension of the encoder's output,
  //   so any fits that is made on a dot product
  // data: {train, validation} paths as the "sequence_pairs" reader takes them, {reader} more fields of the reader
  // tokens: {fields} of the reader for its tokenizers and indexers, {units} that the target's are joined by
  // text_metrics: the names; training stops and learns by the first of them, of an error rate by low ones
  // dim, num_layers: the size and the number of all layers
  // trainer, data_loader, model: fields of these besides; batch_size: of the data loader
  sequence_pairs(
    attention, data, tokens, text_metrics, dim, num_layers, dropout, batch_size, trainer, data_loader={}, model={},
    vocabulary={},
  ):: {
    random_seed: 13370,
    numpy_seed: 1337,
    pytorch_seed: 133,
    dataset_reader: { type: 'sequence_pairs' } + tokens.fields + data.reader,
    train_data_path: data.train,
    validation_data_path: data.validation,
    vocabulary: vocabulary,
    model: {
      type: 'attentional_seq2seq',
      source_text_field_embedder: {
        token_embedders: {
          tokens: { type: 'embedding', embedding_dim: dim, vocab_namespace: 'source_tokens' },
        },
      },
      encoder: {
        type: 'lstm',
        input_size: dim,
        hidden_size: dim / 2,
        num_layers: num_layers,
        dropout: if num_layers > 1 then dropout else 0,
        bidirectional: true,
      },
      attention: attention,
      target_embedding_dim: dim,
      decoder_hidden_dim: dim,
      num_decoder_layers: num_layers,
      dropout: dropout,
      text_metrics: text_metrics,
      target_units: tokens.units,
      // AllenNLP's own initial vectors are so small that attention is all but flat at first.
      initializer: { regexes: [['_source_text_field_embedder.*weight', { type: 'normal', std: 1 }]] },
    } + model,
    data_loader: {
      batch_sampler: { type: 'bucket', batch_size: batch_size, sorting_keys: ['source_tokens', 'target_tokens'] },
    } + data_loader,
    trainer: {
      validation_metric: (if std.endsWith(text_metrics[0], '_error_rate') then '-' else '+') + text_metrics[0],
      grad_norm: 5,
    } + trainer,
  },

  // The tokens as the environment asks for them; `words` are what they are otherwise.
  subwords_or(words)::
    local model_path = std.extVar('SUBWORDS');
    if model_path == '' then { fields: words, units: 'words' } else {
      fields: { source_tokenizer: { type: 'sentencepiece', model_path: model_path } },
      units: 'subwords',
    },
}
