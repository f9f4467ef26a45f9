// An encoder of multi-head self-attention, for whatever takes a `Seq2SeqEncoder`.
// attention: the block of its attention
// alignment_regularizer: the block of what makes its queries and keys alike, or null
// positions: fields for the relative positions; none for what has no order
function(dim, attention, alignment_regularizer, positions={}) {
  type: 'multi_head_self_attention',
  input_dim: dim,
  num_heads: 4,
  num_layers: 1,
  feedforward_hidden_dim: 2 * dim,
  dropout: 0.1,
  attention: attention,
  alignment_regularizer: alignment_regularizer,
} + positions
