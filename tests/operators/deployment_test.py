"""The operators where large models live: meta device, FSDP and DDP, checkpoints, hooks, tracing, old states."""

import contextlib
import io
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

import regattn_allennlp
from regattn_allennlp import CustomMax, Entmax, FenchelYoungLoss, Fusedmax, RegularizedMax, Softmax, fenchel_young_loss
from tests.operators.common import NAMES, every_operator, random_mask, random_scores

PROJECT_ROOT = Path(__file__).parents[2]
TORCH_VERSION = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])


def half_square(weights):
    return weights.square().sum() / 2


def learning(name: str) -> RegularizedMax:
    """The operator with all that it can learn learned."""
    own = {"fusedmax": {"learn_lam": True}, "oscarmax": {"learn_lam": True}, "entmax": {"learn_alpha": True}}
    if name == "custom":
        return CustomMax(half_square, learn_gamma=True)
    return RegularizedMax.by_name(name)(learn_gamma=True, **own.get(name, {}))


# --- the meta device ---


@pytest.mark.parametrize("name", [*NAMES, "custom"])
@pytest.mark.parametrize("learned", [False, True])
def test_on_the_meta_device_everything_has_its_shape(name, learned):
    with torch.device("meta"):
        operator = (
            learning(name) if learned else RegularizedMax.by_name(name)(*([half_square] if name == "custom" else []))
        )
        scores = torch.empty(2, 3, 5, requires_grad=True)
        mask = torch.empty(3, 5, dtype=torch.bool)
        weights, value = operator(scores, mask), operator.value(scores, mask)
        loss = fenchel_young_loss(scores, torch.empty(2, 3, dtype=torch.int64), operator, mask)
        (weights.sum() + value.sum() + loss).backward()
    assert {tensor.device.type for tensor in (weights, value, loss, scores.grad)} == {"meta"}
    assert (weights.shape, value.shape, loss.shape, scores.grad.shape) == ((2, 3, 5), (2, 3), (), (2, 3, 5))
    assert ("gamma=learned" in repr(operator)) == learned
    if name == "custom":
        return
    # As large models are made: first without numbers, then from a state.
    made = operator.to_empty(device="cpu")
    ready = learning(name) if learned else RegularizedMax.by_name(name)()
    made.load_state_dict(ready.state_dict())
    assert repr(made) == repr(ready)
    assert_close(made(random_scores(4, 5)), ready(random_scores(4, 5)))


def test_a_tensor_on_the_meta_device_can_be_learned():
    operator = Fusedmax(gamma=torch.ones(4, 1, device="meta"), learn_gamma=True)
    assert operator.log_gamma.shape == (4, 1) and operator.log_gamma.is_meta


# --- parameters ---


@every_operator
def test_learned_numbers_have_a_dimension_that_can_be_sharded(name):
    operator = learning(name)
    assert {parameter.shape for parameter in operator.parameters()} == {(1,)}
    assert {value.shape for value in operator.learned_regularization().values()} == {()}
    assert operator.gamma.shape == ()


@every_operator
def test_states_of_earlier_versions_are_loaded(name):
    operator = torch.nn.Sequential(learning(name))
    earlier = {"0.log_gamma": torch.tensor(0.3)}
    expected = {"gamma": torch.tensor(0.3).exp()}
    if name in ("fusedmax", "oscarmax"):
        earlier["0.log_lam"], expected["lam"] = torch.tensor(-1.5), torch.tensor(-1.5).exp()
    if name == "entmax":
        earlier["0.log_alpha"], expected["alpha"] = torch.tensor(-1.5), 1 + torch.tensor(-1.5).exp()
    given = dict(earlier)
    operator.load_state_dict(earlier)
    assert_close(operator[0].learned_regularization(), expected)
    assert earlier == given
    state = io.BytesIO()
    torch.save(operator.state_dict(), state)
    state.seek(0)
    again = torch.nn.Sequential(learning(name))
    again.load_state_dict(torch.load(state))
    assert_close(again[0].learned_regularization(), expected)


def test_an_alpha_that_an_earlier_version_learned_beyond_the_bound_is_named():
    with pytest.raises(ValueError, match=r"log_alpha keeps alpha = 3.718.*max_alpha is 2.0: it must be larger"):
        Entmax(learn_alpha=True).load_state_dict({"log_alpha": torch.tensor(1.0)})
    operator = Entmax(learn_alpha=True, max_alpha=8.0)
    operator.load_state_dict({"log_alpha": torch.tensor(1.0)})
    assert_close(operator.alpha.item(), 3.7182818, rtol=1e-6, atol=0)


# --- several processes ---

TRAIN = """
import sys
import torch
import torch.distributed
from regattn_allennlp import Entmax, Fusedmax


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(6, 6)
        self.fusedmax = Fusedmax(learn_gamma=True, learn_lam=True)
        self.entmax = Entmax(learn_alpha=True)

    def forward(self, inputs):
        return self.fusedmax(self.linear(inputs)) + self.entmax(inputs)


def wrap(model, way):
    if way == "ddp":
        return torch.nn.parallel.DistributedDataParallel(model)
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (2,))
    fully_shard(model.fusedmax, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def main(rank, way, file):
    torch.distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    torch.manual_seed(0)
    alone, model = Model(), Model()
    model.load_state_dict(alone.state_dict())
    model = wrap(model, way)
    inputs = torch.randn(8, 6)
    optimizers = [torch.optim.Adam(module.parameters(), lr=0.1) for module in (alone, model)]
    for _ in range(5):
        for module, optimizer, part in zip((alone, model), optimizers, (inputs, inputs[rank * 4 :][:4]), strict=True):
            optimizer.zero_grad()
            module(part).square().sum(-1).mean().backward()
            optimizer.step()
    names = []
    for (name, parameter), expected in zip(model.named_parameters(), alone.parameters(), strict=True):
        whole = parameter.full_tensor() if way == "fsdp" else parameter
        torch.testing.assert_close(whole, expected, rtol=1e-4, atol=1e-5)
        names.append(name.removeprefix("module."))
    print(repr(model) if rank else names, flush=True)
    if way == "fsdp":
        try:
            model.fusedmax.lam
        except RuntimeError as error:
            assert "log_lam.full_tensor()" in str(error)
        else:
            raise AssertionError
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    torch.multiprocessing.spawn(main, sys.argv[1:], nprocs=2)
"""


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this PyTorch has no torch.distributed")
@pytest.mark.parametrize("way", ["ddp", "fsdp"])
def test_what_two_processes_learn_is_what_one_learns(way, tmp_path):
    if way == "fsdp" and TORCH_VERSION < (2, 8):
        pytest.skip("fully_shard does not work on CPUs before PyTorch 2.8")
    script = tmp_path / "train.py"
    script.write_text(TRAIN)
    environment = {**os.environ, "PYTHONPATH": str(PROJECT_ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", script, way, tmp_path / "rendezvous"]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    for name in ("linear.weight", "fusedmax.log_gamma", "fusedmax.log_lam", "entmax.logit_alpha"):
        assert f"'{name}'" in run.stdout
    assert ("gamma=learned, lam=learned" if way == "fsdp" else "lam=0.") in run.stdout


# --- hooks of saved tensors ---


@pytest.mark.parametrize("name", [*NAMES, "custom"])
@pytest.mark.parametrize("way", ["checkpoint", "reentrant checkpoint", "save_on_cpu", "save_on_cpu throughout"])
def test_under_checkpointing_and_saving_elsewhere_gradients_are_the_same(name, way):
    if name == "custom" and "reentrant" not in way and TORCH_VERSION < (2, 8):
        pytest.skip("says that it needs PyTorch 2.8: see the next test")
    operator = learning(name)
    mask = random_mask(4, 5)

    def loss(scores):
        return operator(scores, mask).square().sum() + operator.value(scores, mask).sum()

    results = []
    for run in ("plainly", way):
        scores = random_scores(4, 5, dtype=torch.float32).requires_grad_()
        operator.zero_grad()
        saving = torch.autograd.graph.save_on_cpu() if "save" in run else contextlib.nullcontext()
        with saving:
            result = (
                checkpoint(loss, scores, use_reentrant="reentrant" in run) if "checkpoint" in run else loss(scores)
            )
            if "throughout" in run:
                result.backward()
        if "throughout" not in run:
            result.backward()
        results.append([scores.grad, *(parameter.grad for parameter in operator.parameters())])
    assert_close(*results)


def test_an_omega_that_learns_is_recomputed_by_a_checkpoint():
    if TORCH_VERSION < (2, 8):
        with torch.autograd.graph.save_on_cpu(), pytest.raises(RuntimeError, match=r"custom_max.*needs PyTorch 2.8"):
            regattn_allennlp.custom_max(random_scores(2, 3).requires_grad_(), half_square)
        return

    class Weighted(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.curvature = torch.nn.Parameter(torch.tensor([0.5, 1.0, 1.5], dtype=torch.float64))

        def forward(self, weights):
            return (self.curvature * weights.square()).sum()

    operator = CustomMax(Weighted())
    packed = []
    gradients = []
    for with_hooks in (False, True):
        scores = (0.1 * random_scores(2, 3)).requires_grad_()
        hooks = torch.autograd.graph.saved_tensors_hooks(lambda x: packed.append(x) or x, lambda x: x)
        with hooks if with_hooks else contextlib.nullcontext():
            weights = operator(scores)
            # The hooks are there again after the solver.
            loss = (weights.square() * weights).sum()
        gradients.append(torch.autograd.grad(loss, [scores, *operator.parameters()]))
    assert_close(*gradients)
    assert any(torch.equal(tensor, weights) for tensor in packed)


# --- symbolic tracing ---


class Attention(torch.nn.Module):
    def __init__(self, operator):
        super().__init__()
        self.linear = torch.nn.Linear(5, 5)
        self.operator = operator

    def forward(self, inputs, mask=None):
        return self.operator(self.linear(inputs), mask) @ inputs.mT


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("learned", [False, True])
def test_a_symbolic_trace_has_the_operator_as_one_node(name, learned):
    model = Attention(learning(name) if learned else RegularizedMax.by_name(name)())
    traced = torch.fx.symbolic_trace(model)
    called = [node.target.__name__ for node in traced.graph.nodes if node.op == "call_function"]
    assert sum(name in function for function in called) == 1
    assert not any("where" in str(node.target) or "sort" in str(node.target) for node in traced.graph.nodes)
    inputs, mask = random_scores(3, 5, dtype=torch.float32), random_mask(3, 5)
    for copy in (traced, pickle.loads(pickle.dumps(traced))):
        assert_close(copy(inputs, mask), model(inputs, mask))
        copy(inputs, mask).square().sum().backward()
    assert all(parameter.grad is not None for parameter in traced.parameters())


def test_functions_values_and_losses_are_traced_too():
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.fusedmax = Fusedmax()
            self.loss = FenchelYoungLoss(Softmax())

        def forward(self, scores, target):
            return self.fusedmax.value(regattn_allennlp.sparsemax(scores, dim=0)), self.loss(scores, target)

    traced = torch.fx.symbolic_trace(Model())
    arguments = random_scores(3, 5), torch.tensor([0, 4, 2])
    assert_close(traced(*arguments), Model()(*arguments))


def test_subclasses_of_tensors_decide_themselves():
    calls = []

    class Watched(torch.Tensor):
        @classmethod
        def __torch_function__(cls, function, types, arguments=(), named=None):
            calls.append(function)
            return super().__torch_function__(function, types, arguments, named or {})

    scores = random_scores(2, 3)
    for name in NAMES:
        function = getattr(regattn_allennlp, name)
        weights = function(scores.as_subclass(Watched))
        assert calls.pop(0) is function
        assert isinstance(weights, Watched)
        assert_close(torch.Tensor(weights).double(), function(scores).float().double())
        calls.clear()


def test_a_mode_such_as_a_default_device_has_a_say_in_what_an_operator_does():
    seen = []

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, arguments=(), named=None):
            seen.append(function)
            return function(*arguments, **(named or {}))

    def omega(weights):
        return (torch.arange(1.0, 4.0) * weights.square()).sum()

    with Watch():
        regattn_allennlp.custom_max(random_scores(2, 3, dtype=torch.float32), omega)
    assert torch.arange in seen
