// The translation experiment of Deng et al. 2018 (Latent Alignment and Variational Attention, arXiv 1807.03756, section
// 5), with the sizes and the schedule of its authors' code: IWSLT14, German to English, tokenized and in lower case. The
// environment variable SUBWORDS chooses the subwords (theirs: 14,000 of both languages); DENG2018_DIM the size that all
// others are multiples of, 512 by default.
local common = import 'sequence_pairs.libsonnet';
local dim = std.parseInt(std.extVar('DENG2018_DIM'));
local decoder_dim = dim * 3 / 2;
local dropout = 0.3;
local data = 'https://huggingface.co/datasets/bbaaaa/iwslt14-de-en-preprocess/resolve/refs%2Fconvert%2Fparquet/de-en';

local base = common.sequence_pairs(
  attention={
    type: 'softmax',
    similarity: { type: 'additive', matrix_1_dim: decoder_dim, matrix_2_dim: 2 * dim, hidden_dim: dim },
  },
  data={
    train: data + '/train/0000.parquet',
    validation: data + '/validation/0000.parquet',
    reader: { source_column: 'translation.de', target_column: 'translation.en' },
  },
  tokens=common.subwords_or({}),
  text_metrics=['bleu', 'chrf'],
  dim=dim,
  num_layers=2,
  dropout=dropout,
  batch_size=6,
  trainer={
    validation_metric: '-perplexity',
    num_epochs: 30,
    optimizer: { type: 'adam', lr: 0.0003 },
    // Halved after each epoch without a lower perplexity than all before.
    learning_rate_scheduler: { type: 'reduce_on_plateau', factor: 0.5, patience: 0, threshold: 0 },
  },
  model={
    input_feeding: 'context',
    first_state: 'zeros',
    loss_normalization: 'sentences',
    decoder_hidden_dim: decoder_dim,
    beam_search: { beam_size: 10, max_steps: 100, final_sequence_scorer: { type: 'gnmt-length-penalty', alpha: 1.0 } },
    end_normalization: 3.0,
    initializer: { regexes: [['.*', { type: 'uniform', a: -0.1, b: 0.1 }]] },
  },
);

{
  // latent_alignment: the block of the model's `latent_alignment`
  translation(latent_alignment):: base {
    model+: { encoder+: { hidden_size: dim }, latent_alignment: latent_alignment },
  },

  // estimator: of the variational alignment, whose inference network has encoders of its own, as large as the model's
  variational(estimator):: $.translation({
    type: 'variational',
    estimator: estimator,
    inference_network: { type: 'separate_encoders', num_layers: 2, dropout: dropout },
  }),
}
