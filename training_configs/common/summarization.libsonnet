// News articles and their highlights, CNN/DailyMail, with the lengths of See et al. 2017 (arXiv 1704.04368).
local common = import 'sequence_pairs.libsonnet';
local num_epochs = 12;
local indexers(namespace) = { tokens: { type: 'single_id', namespace: namespace, lowercase_tokens: true } };

function(attention) common.sequence_pairs(
  attention=attention,
  data={
    train: 'abisee/cnn_dailymail:train',
    validation: 'abisee/cnn_dailymail:validation',
    reader: { config_name: '3.0.0', max_source_tokens: 400, max_target_tokens: 100 },
  },
  tokens=common.subwords_or({
    source_tokenizer: { type: 'spacy_language', language: 'en' },
    source_token_indexers: indexers('source_tokens'),
    target_token_indexers: indexers('target_tokens'),
  }),
  text_metrics=['rouge'],
  dim=256,
  num_layers=1,
  dropout=0.2,
  batch_size=16,
  trainer={
    validation_metric: '+rouge-l',
    num_epochs: num_epochs,
    patience: 3,
    optimizer: { type: 'adam', lr: 0.001 },
    learning_rate_scheduler: { type: 'cosine', t_initial: num_epochs },
  },
  model={
    tied_embeddings: true,
    beam_search: {
      beam_size: 4,
      min_steps: 35,
      max_steps: 120,
      final_sequence_scorer: { type: 'length-normalized-sequence-log-prob' },
    },
  },
  // 290,000 articles: the tokens stay on disk, for later runs too.
  data_loader={ type: 'cached' },
  vocabulary={ max_vocab_size: { source_tokens: 50000, target_tokens: 50000 } },
)
