"""
The solvers of single rows, one file a device, `cpu` and `gpu`. Both have the same functions over contiguous matrices
whose rows are the problems:

    sparsemax_rows(scores, mask, gamma, offsets)                              -> weights
    fusedmax_rows(scores, mask, gamma, lam, lams, offsets)                    -> weights, blocks
    oscarmax_rows(scores, mask, gamma, lam, lams, offsets)                    -> weights, blocks
    entmax_rows(scores, mask, gamma, alpha, alphas, may_exceed_2, offsets)    -> weights, at alpha = 1 softmax's
    squared_p_norm_max_rows(scores, mask, gamma, exponent, offsets)           -> weights
    normmax_rows(scores, mask, gamma, exponent, offsets)                      -> weights

and for their Jacobians, times a vector:

    support_jacobian_rows(vector, weights, gamma, offsets)                    every weight a block
    block_jacobian_rows(vector, blocks, gamma, offsets)
    entmax_jacobian_rows(vector, weights, alpha, alphas, offsets)             for gamma = 1
    squared_p_norm_jacobian_rows(vector, weights, exponent, offsets)          for gamma = 1
    normmax_jacobian_rows(vector, weights, exponent, offsets)                 for gamma = 1

and for that of entmax by alpha, of the gradient by the scores for gamma = 1:

    entmax_alpha_gradient_rows(gradient, weights, alphas, offsets)            -> in the shape of the alphas

On the CPU alone there is `constrained_sparsemax_rows`, too, for a bound and a budget that are numbers.

- `scores`: float16, bfloat16, float32 or float64; -inf at a position takes it out of the problem, as a false in
  `mask` does (bool, or None).
- `gamma`, `lam`, `alpha`, `exponent`: numbers. `lams`, `alphas`: floating point, one for each row, in place of the
  number, or None. `may_exceed_2`: whether an alpha may.
- `offsets`: int64, for packed rows, or None: each row of the matrix is a copy that has a problem from each offset to
  the next. One number for each row is then a matrix (num_copies, num_rows), contiguous.
- `weights`: in the dtype of `scores`, NaN in a row without a solution: one with NaN or +inf in it, or with a lam that
  is not a finite number, 0 or above, or an alpha that is not one, 1 or above.
- `blocks`: int32, 0 where the weight is 0; else the number of the block of the proximal operator's solution that the
  position belongs to, equal for two positions of a row exactly if their blocks are; -1 in a row without a solution.

`losses` has the losses of class indices on the CPU; elsewhere they are made of operators. `plain` has the solvers for
any device, for export to ONNX.
"""
