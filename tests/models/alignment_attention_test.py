"""What models make of alignment regularizers in them."""

import copy
import json

import pytest
import torch
from allennlp.common import Params
from allennlp.common.util import prepare_environment
from allennlp.data import Batch, DatasetReader, Vocabulary
from allennlp.models import Model

import regattn_allennlp.config_variables
import regattn_allennlp.data.dataset_readers
import regattn_allennlp.models
import regattn_allennlp.modules.seq2seq_encoders  # noqa: F401  (registers what the configs name)
from tests.conftest import PROJECT_ROOT
from tests.data.conftest import caches_in_a_temporary_folder  # noqa: F401  (applies to all tests here)

CONFIGS = PROJECT_ROOT / "training_configs"
INCLUDE = ("--include-package", "regattn_allennlp")
TINY = {
    "train_data_path": "sample:train[:96]",
    "validation_data_path": "sample:validation[:32]",
    "trainer.num_epochs": 1,
}
KINDS = ("adversarial", "conditional_transport", "mmd", "sinkhorn")
SELF_ATTENTION = {"type": "multi_head_self_attention", "num_heads": 2, "max_distance": 4}
# A config, and what gives it an encoder with the regularizer.
TASKS = {
    "alignment/entailment.jsonnet": lambda block: {"model.encoder.alignment_regularizer": block},
    "alignment/vqa.jsonnet": lambda block: {"model.region_encoder.alignment_regularizer": block},
    "g2p/softmax.jsonnet": lambda block: {
        "model.encoder": {**SELF_ATTENTION, "input_dim": 128, "alignment_regularizer": block}
    },
}


def set_up(config: str, block) -> tuple[Model, dict]:
    params = Params.from_file(CONFIGS / config, json.dumps({**TINY, **TASKS[config](block)}))
    prepare_environment(params)
    instances = list(DatasetReader.from_params(params.pop("dataset_reader")).read("sample:validation[:8]"))
    vocab = Vocabulary.from_instances(instances)
    batch = Batch(instances)
    batch.index_instances(vocab)
    torch.manual_seed(0)
    return Model.from_params(params.pop("model"), vocab=vocab), batch.as_tensor_dict()


@pytest.mark.parametrize("config", TASKS)
def test_training_adds_the_loss_and_evaluation_tells_it(config):
    plain, batch = set_up(config, None)
    model, _ = set_up(config, {"type": "mmd", "weight": 0.5})
    outputs = {}
    for name, one in (("plain", plain), ("aligned", model)):
        torch.manual_seed(1)
        outputs[name] = one(**batch)
    aligned = outputs["aligned"]
    torch.testing.assert_close(aligned["alignment_loss"], 0.5 * aligned["alignment_distance"])
    assert aligned["alignment_loss"] > 0
    assert torch.equal(aligned["loss"], outputs["plain"]["loss"] + aligned["alignment_loss"])
    metrics = model.get_metrics(reset=True)
    assert metrics["alignment_loss"] == pytest.approx(aligned["alignment_loss"].item())
    assert metrics["alignment_distance"] == pytest.approx(aligned["alignment_distance"].item())
    assert not any(name.startswith("alignment") for name in {**model.get_metrics(), **plain.get_metrics(reset=True)})
    for one in (plain, model):
        one.eval()
    with torch.no_grad():
        evaluated = model(**batch)
        torch.testing.assert_close(evaluated["loss"], plain(**batch)["loss"], rtol=0, atol=0)
    assert evaluated["alignment_loss"] > 0


@pytest.mark.parametrize("kind", KINDS)
def test_with_weight_0_training_is_bit_for_bit_that_of_the_plain_model(kind):
    states = []
    for block in (None, {"type": kind, "weight": 0}, {"type": kind, "weight": 0.1}):
        model, batch = set_up("alignment/entailment.jsonnet", copy.deepcopy(block))
        optimizer = torch.optim.Adam([one for one in model.parameters() if one.requires_grad], lr=0.01)
        torch.manual_seed(1)
        for _ in range(3):
            optimizer.zero_grad()
            model(**batch)["loss"].backward()
            optimizer.step()
        states.append({name: value for name, value in model.state_dict().items() if "regularizer" not in name})
    plain, weightless, regularized = states
    assert all(torch.equal(plain[name], weightless[name]) for name in plain)
    assert not all(torch.equal(plain[name], regularized[name]) for name in plain)


@pytest.mark.parametrize(
    "config, kind",
    [
        *(("alignment/entailment.jsonnet", kind) for kind in KINDS),
        ("alignment/vqa.jsonnet", "sinkhorn"),
        ("g2p/softmax.jsonnet", "mmd"),
    ],
)
def test_trains_by_the_command_line(allennlp, tmp_path, config, kind):
    overrides = {**TINY, **TASKS[config]({"type": kind, "weight": 0.2, "warmup_batches": 2})}
    allennlp("train", CONFIGS / config, "-s", tmp_path / "run", "--overrides", json.dumps(overrides), *INCLUDE)
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["validation_alignment_loss"] == pytest.approx(0.2 * metrics["validation_alignment_distance"])
    assert metrics["training_alignment_loss"] != 0
    allennlp("evaluate", tmp_path / "run", "sample:validation[:32]", "--output-file", tmp_path / "out.json", *INCLUDE)
    evaluated = json.loads((tmp_path / "out.json").read_text())
    assert evaluated["alignment_loss"] == pytest.approx(metrics["validation_alignment_loss"], rel=1e-4)
