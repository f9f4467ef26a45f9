import pytest
import torch
from allennlp.data.data_loaders import SimpleDataLoader
from allennlp.models import Model
from allennlp.nn.parallel.ddp_accelerator import DdpWrappedModel
from allennlp.training import GradientDescentTrainer
from allennlp.training.util import rescale_gradients

import regattn_allennlp.compatibility  # noqa: F401

CLIPPED = 0.5


class Cubes(Model):
    """An embedding, some of whose rows have large gradients, some small ones, and some none."""

    def __init__(self, sparse: bool) -> None:
        super().__init__(None)
        numbers = torch.linspace(-0.5, 0.5, 15).view(5, 3)
        self.embedding = torch.nn.Embedding(5, 3, sparse=sparse, _weight=numbers.clone())
        self.scale = torch.nn.Parameter(torch.tensor(2.0))

    def forward(self) -> dict[str, torch.Tensor]:
        # The second row comes twice: such a gradient has its values in two places.
        return {"loss": (self.scale * self.embedding(torch.tensor([0, 1, 1, 2]))).pow(3).sum()}


def gradients(sparse: bool, scaler: torch.amp.GradScaler | None = None, **options: float) -> tuple:
    model = Cubes(sparse)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    trainer = GradientDescentTrainer(model, optimizer, SimpleDataLoader([1], 1), **options)
    trainer._scaler = scaler
    loss = model()["loss"]
    (loss if scaler is None else scaler.scale(loss)).backward()
    norm = trainer.rescale_gradients()
    trainer.clip_gradient()
    return model.embedding.weight.grad, model.scale.grad, norm


@pytest.mark.parametrize("options", [{"grad_clipping": CLIPPED}, {"grad_norm": 1.0}, {"grad_norm": True}], ids=str)
def test_sparse_gradients_are_clipped_like_dense_ones(options):
    (sparse, *others), (dense, *same) = gradients(True, **options), gradients(False, **options)
    assert sparse.is_sparse
    torch.testing.assert_close(sparse.to_dense(), dense)
    torch.testing.assert_close(others, same)
    if "grad_clipping" in options:
        assert dense.abs().max() == CLIPPED
        assert ((dense.abs() > 0) & (dense.abs() < CLIPPED)).any()


@pytest.mark.parametrize(
    "options", [{"grad_clipping": CLIPPED}, {"grad_clipping": CLIPPED, "grad_norm": 9.0}], ids=str
)
def test_gradients_of_mixed_precision_are_unscaled_before_they_are_clipped(options):
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    (sparse, *others), (dense, *same) = gradients(True, scaler, **options), gradients(False, **options)
    torch.testing.assert_close(sparse.to_dense(), dense)
    torch.testing.assert_close(others, same)


@pytest.mark.parametrize(
    "rescale",
    [
        lambda model: DdpWrappedModel(model, local_rank=0, world_size=1).clip_grad_norm_(0.5),
        lambda model: rescale_gradients(model, 0.5),
    ],
    ids=["distributed", "by hand"],
)
def test_sparse_gradients_are_rescaled_in_distributed_training_and_by_hand(rescale):
    models = Cubes(sparse=True), Cubes(sparse=False)
    for model in models:
        model()["loss"].backward()
        rescale(model)
    sparse, dense = models
    torch.testing.assert_close(sparse.embedding.weight.grad.to_dense(), dense.embedding.weight.grad)
    torch.testing.assert_close(sparse.scale.grad, dense.scale.grad)
