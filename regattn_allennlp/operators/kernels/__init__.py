"""
The solvers of single rows, one file a device. Each file has the same four functions over tensors of shape
(num_rows, row_length), with -inf at the positions that are not in the problem:

    sparsemax_rows(scores, gamma)       -> weights, blocks
    fusedmax_rows(scores, gamma, lam)   -> weights, blocks
    oscarmax_rows(scores, gamma, lam)   -> weights, blocks
    jacobian_rows(upstream, weights, blocks, gamma) -> gradient

`blocks` names, for each position, the block of the proximal operator's solution that the position belongs to: two
positions of a row are in the same block exactly if their numbers are equal.
"""
