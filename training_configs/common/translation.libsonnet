// WMT14, German to English. The data set is large: for a smaller one, name its files in the train_data_path and the
// validation_data_path, and its columns in the dataset_reader.
local common = import 'sequence_pairs.libsonnet';
local num_epochs = 20;

function(attention, latent_alignment={ type: 'soft' }) common.sequence_pairs(
  attention=attention,
  data={
    train: 'wmt/wmt14:train',
    validation: 'wmt/wmt14:validation',
    reader: { config_name: 'de-en', source_column: 'translation.de', target_column: 'translation.en' },
  },
  tokens=common.subwords_or({}),
  text_metrics=['bleu', 'chrf'],
  dim=512,
  num_layers=2,
  dropout=0.3,
  batch_size=64,
  trainer={
    num_epochs: num_epochs,
    patience: 4,
    optimizer: { type: 'adam', lr: 0.0005 },
    learning_rate_scheduler: { type: 'cosine', t_initial: num_epochs },
  },
  model={
    tied_embeddings: true,
    // A smoothed target has no likelihood to be marginalized over alignments.
    label_smoothing: if latent_alignment.type == 'soft' then 0.1 else 0,
    latent_alignment: latent_alignment,
    beam_search: {
      beam_size: 5,
      max_steps: 100,
      final_sequence_scorer: { type: 'length-normalized-sequence-log-prob' },
    },
  },
  // 4,500,000 pairs: the tokens stay on disk, for later runs too.
  data_loader={ type: 'cached' },
  vocabulary={ max_vocab_size: { source_tokens: 32000, target_tokens: 32000 } },
)
