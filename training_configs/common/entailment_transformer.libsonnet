// SNLI with a pretrained transformer, which embeds either sentence by itself and is fine-tuned; alignment attention
// (Zhang et al. 2021) is on its queries and keys. The environment variable TRANSFORMER chooses it, and TRANSFORMER_DIM
// is the dimension of what it gives.
local entailment = (import 'entailment.libsonnet').entailment;
local model_name = std.extVar('TRANSFORMER');
local embedding = { type: 'pretrained_transformer', model_name: model_name };

// alignment_regularizer: the block, or null for none
// layers: a regular expression that chooses the self-attentions by their names, or null for all
function(attention, alignment_regularizer, layers=null) entailment(
  attention=attention,
  data={ train: 'stanfordnlp/snli:train', validation: 'stanfordnlp/snli:validation' },
  words={ dim: std.parseInt(std.extVar('TRANSFORMER_DIM')), embedding: embedding },
  hidden_dim=200,
  dropout=0.1,
  batch_size=32,
  trainer={
    num_epochs: 3,
    grad_norm: 1,
    optimizer: {
      type: 'adamw',
      lr: 0.0005,
      // The transformer knows much already; all else begins at random.
      parameter_groups: [[['transformer_model'], { lr: 0.00002 }]],
    },
    learning_rate_scheduler: { type: 'slanted_triangular' },
    // AllenNLP's checks stop at a bias that a normalization follows, as ALBERT has it.
    run_confidence_checks: false,
  },
  // 550,000 pairs: the tokens stay on disk, for later runs too.
  data_loader={ type: 'cached' },
  model={
    text_field_embedder: {
      type: 'aligned_transformers',
      text_field_embedder: { token_embedders: { tokens: embedding } },
      alignment_regularizer: alignment_regularizer,
      layers: layers,
    },
  },
) + {
  dataset_reader+: {
    // Word pieces, and the special tokens that the transformer expects around a sentence.
    tokenizer: { type: 'pretrained_transformer', model_name: model_name, max_length: 128 },
    token_indexers: { tokens: { type: 'pretrained_transformer', model_name: model_name } },
  },
}
