// VQA v2 with region features of dimension 2048, as the bottom-up detector gives them (Anderson et al. 2018, arXiv
// 1707.07998), in files as the dataset reader "vqa" wants them. The paths are those of VQA's own files, unpacked into
// the folder vqa_v2; the annotations are found beside the questions. Give other paths by --overrides.
local vqa = (import '../common/vqa.libsonnet').vqa;

vqa(
  attention={ type: 'softmax', similarity: { type: 'scaled_dot_product' } },
  latent_alignment={ type: 'soft' },
  reader={
    region_features: ['vqa_v2/train2014_regions.h5', 'vqa_v2/val2014_regions.h5'],
  },
  data={
    train: 'vqa_v2/v2_OpenEnded_mscoco_train2014_questions.json',
    validation: 'vqa_v2/v2_OpenEnded_mscoco_val2014_questions.json',
  },
  region_dim=2048,
  word_dim=300,
  question_dim=512,
  value_dim=512,
  dropout=0.3,
  batch_size=512,
  // Answers that were given to fewer questions than this are not learned.
  vocabulary={ min_count: { answers: 8 } },
  trainer={
    num_epochs: 20,
    patience: 4,
    optimizer: { type: 'adam', lr: 0.001 },
    grad_norm: 0.25,
  },
  // 440,000 questions: their tokens stay on disk, for later runs too. The features are read batch by batch anyway.
  data_loader={ type: 'cached' },
)
