// The embedded sample of scenes: small enough to learn on a laptop in about a minute.
local vqa = (import 'vqa.libsonnet').vqa;

function(attention, latent_alignment={ type: 'soft' }, region_encoder=null) vqa(
  // Unscaled, the products of so many numbers would make the attention one-hot before it learned anything.
  attention=attention { similarity: { type: 'scaled_dot_product' } },
  latent_alignment=latent_alignment,
  region_encoder=region_encoder,
  reader={},
  data={ train: 'sample:train', validation: 'sample:validation' },
  region_dim=32,
  word_dim=64,
  question_dim=128,
  value_dim=128,
  dropout=0.0,
  batch_size=64,
  trainer={
    num_epochs: 16,
    optimizer: { type: 'adam', lr: 0.002 },
  },
)
