from dataclasses import replace

import torch

from tests.modules.latent_alignment.common import build, problem


def test_contexts_that_a_model_has_serve_as_those_made_of_the_values():
    alignment, given = build("soft"), problem()
    queries = given.queries()
    contexts = torch.einsum("qz,qzd->qd", queries.weights, given.values[given.items])
    expected, found = alignment.objective(queries), alignment.objective(replace(queries, contexts=contexts))
    torch.testing.assert_close(found, expected)
    leaves = given.scores, given.values
    gradients = [torch.autograd.grad(of.sum(), leaves, retain_graph=True) for of in (found, expected)]
    torch.testing.assert_close(*gradients)
