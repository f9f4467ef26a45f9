"""
What trained latent alignments have learned: on given data, in nats for each query (a target token, a question), the
mean of

- log p(y), the marginal over the positions;
- log p(y | E_p[x_z]), of the prior's mixture, which soft attention trains;
- the ELBO, of the inference network's q as it is trained by "variational": below log p(y) by what q lacks;
- log p(y | E_q[x_z]), of q's mixture;
- KL(p(z | y) || p(z)), what the target says about the position; 0 if the model does not use it.

    python benchmarks/alignment_gap.py output/exact output/enumeration --data validation.tsv
"""

import argparse
import logging
from collections import Counter

import torch
from allennlp.common.util import import_module_and_submodules
from allennlp.data import Batch
from allennlp.models import Model
from allennlp.models.archival import load_archive

from regattn_allennlp.modules.latent_alignment import AlignmentQueries, DirichletAlignment
from regattn_allennlp.modules.latent_alignment.prior_support import PriorSupport

BATCH_SIZE = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archives", nargs="+", help="what `allennlp train` wrote, with a latent alignment each")
    parser.add_argument("--data", required=True, help="as the archives' dataset readers take it")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    import_module_and_submodules("regattn_allennlp")
    print("| archive | log p(y) | prior's mixture | ELBO | q's mixture | KL(p(z given y), p(z)) |")
    print("| --- | --- | --- | --- | --- | --- |")
    for path in arguments.archives:
        archive = load_archive(path)
        if not hasattr(archive.model, "_latent_alignment"):
            parser.error(f'{path}: its model has no "latent_alignment"')
        instances = list(archive.validation_dataset_reader.read(arguments.data))
        means = measured(archive.model, instances)
        cells = [f"{means[name]:.3f}" if name in means else "" for name in ("marginal", "p", "elbo", "q", "kl")]
        print(f"| {path} | {' | '.join(cells)} |", flush=True)


@torch.no_grad()
def measured(model: Model, instances: list) -> dict[str, float]:
    sums: Counter[str] = Counter()
    alignment = model._latent_alignment

    def record(queries: AlignmentQueries, posterior_scores: torch.Tensor | None = None) -> torch.Tensor:
        support = PriorSupport(queries)
        log_likelihood = support.log_likelihood(queries)
        log_joint = support.log_prior + log_likelihood
        quantities = {
            "marginal": support.without_filler(log_joint).logsumexp(1),
            "p": queries.log_likelihood_of_mixture(queries.weights),
            "kl": support.divergence_from_prior(support.log_softmax(log_joint)),
        }
        # Dirichlet's q is of mixtures.
        if posterior_scores is not None and not isinstance(alignment, DirichletAlignment):
            log_q = support.posterior(posterior_scores, with_prior=alignment._prior_in_posterior)
            elbo = support.expectation(log_q, log_likelihood) - support.divergence_from_prior(log_q)
            q = torch.where(support.included, log_q.exp(), 0.0)
            weights = torch.zeros_like(queries.weights).scatter(1, support.positions, q)
            quantities.update(elbo=elbo, q=queries.log_likelihood_of_mixture(weights))
        for name, values in quantities.items():
            sums[name] += values.sum().item()
        sums["queries"] += len(queries.weights)
        return quantities["marginal"]

    alignment.objective = record
    model.eval()
    model.training = True  # itself alone, so that it asks for the objective, and drops nothing out
    for start in range(0, len(instances), BATCH_SIZE):
        batch = Batch(instances[start : start + BATCH_SIZE])
        batch.index_instances(model.vocab)
        model(**batch.as_tensor_dict())
    return {name: value / sums["queries"] for name, value in sums.items() if name != "queries"}


if __name__ == "__main__":
    main()
