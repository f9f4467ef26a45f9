"""
The solvers of single rows, one file a device, `cpu` and `gpu`. Both have the same five functions over contiguous
matrices whose rows are the problems:

    sparsemax_rows(scores, mask, gamma)            -> weights
    fusedmax_rows(scores, mask, gamma, lam, lams)  -> weights, blocks
    oscarmax_rows(scores, mask, gamma, lam, lams)  -> weights, blocks
    support_jacobian_rows(vector, weights, gamma)  -> the Jacobian times the vector, every weight a block
    block_jacobian_rows(vector, blocks, gamma)     -> the Jacobian times the vector

- `scores`: float16, bfloat16, float32 or float64; -inf at a position takes it out of the problem, as a false in
  `mask` does (bool, or None).
- `gamma`, `lam`: numbers. `lams`: floating point, one for each row, in place of `lam`, or None.
- `weights`: in the dtype of `scores`, NaN in a row without a solution: one with NaN or +inf in it, or with a lam that
  is not a finite number, 0 or above.
- `blocks`: int32, 0 where the weight is 0; else the number of the block of the proximal operator's solution that the
  position belongs to, equal for two positions of a row exactly if their blocks are; -1 in a row without a solution.

`losses` has the losses of class indices on the CPU; elsewhere they are made of operators. `plain` has the first three
functions for any device, for export to ONNX.
"""
