// From spelling to pronunciation, character by character: small enough to learn on a laptop in minutes.
local common = import 'sequence_pairs.libsonnet';
local num_epochs = 15;

function(attention, latent_alignment={ type: 'soft' }) common.sequence_pairs(
  attention=attention,
  data={ train: 'sample:train', validation: 'sample:validation', reader: {} },
  tokens={ fields: {}, units: 'words' },
  text_metrics=['exact_match', 'phoneme_error_rate'],
  dim=128,
  num_layers=1,
  dropout=0.2,
  batch_size=64,
  trainer={
    num_epochs: num_epochs,
    optimizer: { type: 'adam', lr: 0.003 },
    learning_rate_scheduler: { type: 'cosine', t_initial: num_epochs },
  },
  model={ latent_alignment: latent_alignment, beam_search: { beam_size: 5, max_steps: 60 } },
)
