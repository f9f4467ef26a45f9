import copy
import json
import math
from pathlib import Path

import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import Batch, DatasetReader, Vocabulary
from allennlp.models import Model
from allennlp.models.archival import load_archive

import regattn_allennlp.config_variables
import regattn_allennlp.data.dataset_readers
import regattn_allennlp.models  # noqa: F401  (registers what the configs name)
from tests.conftest import PROJECT_ROOT
from tests.data.conftest import caches_in_a_temporary_folder  # noqa: F401  (applies to all tests here)
from tests.data.dataset_readers.vqa_test import (
    ANNOTATIONS_NAME,
    QUESTIONS,
    QUESTIONS_NAME,
    annotation,
    layout,
    write_features,
)
from tests.training.metrics.attention_statistics_test import measured_one_by_one

CONFIGS = sorted(PROJECT_ROOT.glob("training_configs/vqa/*.jsonnet"))
ON_THE_SAMPLE = [path for path in CONFIGS if path.stem != "vqa_v2"]
INCLUDE = ("--include-package", "regattn_allennlp")
DIM = 6
TINY = {
    "train_data_path": "sample:train[:96]",
    "validation_data_path": "sample:validation[:32]",
    "trainer.num_epochs": 1,
}
ATTENTIONS = [
    {"type": "softmax"},
    {"type": "sparsemax", "gamma": 0.5},
    {"type": "fusedmax", "lam": 0.2},
    {"type": "oscarmax", "lam": 0.2},
    {"type": "dot_product"},
    {"type": "additive", "vector_dim": DIM, "matrix_dim": DIM},
]
ALIGNMENTS = [
    {"type": "soft"},
    {"type": "exact"},
    {"type": "hard"},
    *(
        {"type": "variational", "estimator": estimator}
        for estimator in ("enumeration", "reinforce", "gumbel_softmax", "wake_sleep")
    ),
    {"type": "dirichlet"},
]


def feedforward(activation: str = "tanh", input_dim: int = DIM) -> dict:
    return {"input_dim": input_dim, "num_layers": 1, "hidden_dims": DIM, "activations": activation}


def config(**changes) -> dict:
    return {
        "type": "attentional_vqa",
        "text_field_embedder": {"token_embedders": {"tokens": {"embedding_dim": DIM}}},
        "question_encoder": {"type": "gru", "input_size": DIM, "hidden_size": DIM},
        "region_feedforward": feedforward(input_dim=32),
        "query_feedforward": feedforward("linear"),
        "attention": {"type": "softmax"},
        "question_feedforward": feedforward("linear"),
        "classifier_feedforward": feedforward(),
        **changes,
    }


def read(number: int = 12) -> list:
    reader = DatasetReader.from_params(Params({"type": "vqa", "tokenizer": {"type": "whitespace"}}))
    instances = list(reader.read(f"sample:validation[:{number}]"))
    for instance in instances:
        reader.apply_token_indexers(instance)
    return instances


def build(instances, vocab=None, **changes) -> Model:
    torch.manual_seed(0)
    vocab = vocab or Vocabulary.from_instances(instances)
    return Model.from_params(Params(copy.deepcopy(config(**changes))), vocab=vocab).eval()


def tensors_of(model: Model, instances) -> dict:
    batch = Batch(instances)
    batch.index_instances(model.vocab)
    return batch.as_tensor_dict()


def run(model: Model, instances) -> dict:
    return model(**tensors_of(model, instances))


@pytest.mark.parametrize("attention", ATTENTIONS, ids=str)
@pytest.mark.parametrize("alignment", [{"type": "soft"}, {"type": "exact"}], ids=str)
def test_any_attention_attends_to_the_regions_alone(attention, alignment):
    instances = read()
    model = build(instances, attention=attention, latent_alignment=alignment)
    weights = run(model, instances)["question_to_regions_attention"]
    assert weights.shape == (12, 1, max(instance["metadata"]["num_regions"] for instance in instances))
    for instance, of_item in zip(instances, weights[:, 0], strict=True):
        number = instance["metadata"]["num_regions"]
        assert of_item[:number].sum().item() == pytest.approx(1)
        assert of_item[number:].eq(0).all()
    numbers = [instance["metadata"]["num_regions"] for instance in instances]
    rows = [row[:number] for row, number in zip(weights[:, 0].tolist(), numbers, strict=True)]
    measured = [measured_one_by_one(row, [True] * len(row)) for row in rows]
    metrics = model.get_metrics(reset=True)
    for name in ("support_size", "entropy", "segments", "distinct_weights"):
        expected = sum(of_row[name] for of_row in measured) / len(measured)
        assert metrics[f"question_to_regions_{name}"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("alignment", ALIGNMENTS, ids=str)
def test_every_alignment_trains_all_parameters(alignment):
    instances = read()
    model = build(instances, latent_alignment=alignment).train()
    loss = run(model, instances)["loss"]
    loss.backward()
    assert loss.isfinite()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    assert set(model.get_metrics()) == {"question_to_regions_zeros"}


@pytest.mark.parametrize("alignment", ALIGNMENTS[:3], ids=str)
def test_follows_the_equations(alignment):
    """One question at a time, one region after the other, by loops."""
    instances = read(5)
    model = build(instances, latent_alignment=alignment)
    output = run(model, instances)
    losses = []
    for number, instance in enumerate(instances):
        tensors = tensors_of(model, [instance])
        embedded = model._text_field_embedder(tensors["question"])
        question = model._question_encoder(embedded, torch.ones(embedded.shape[:2], dtype=torch.bool))[0]
        features = tensors["regions"][0]
        normalized = (features - features.mean(1, keepdim=True)) / (features.var(1, False, keepdim=True) + 1e-5).sqrt()
        values = [model._region_feedforward(region) for region in normalized]
        query = model._query_feedforward(question)
        prior = torch.stack([query @ value for value in values]).softmax(0)
        torch.testing.assert_close(output["question_to_regions_attention"][number, 0, : len(values)], prior)

        def answers_of(context, question=question):
            fused = model._classifier_feedforward(context * model._question_feedforward(question))
            return model._answer_layer(fused).softmax(0)

        if alignment["type"] == "soft":
            probabilities = answers_of(sum(p * value for p, value in zip(prior, values, strict=True)))
        else:
            probabilities = sum(p * answers_of(value) for p, value in zip(prior, values, strict=True))
        # Padding and the unknown answer come first.
        torch.testing.assert_close(output["answer_probs"][number], torch.cat([torch.zeros(2), probabilities]))
        losses.append(-output["answer_probs"][number, tensors["answer"][0]].log())
    torch.testing.assert_close(output["loss"], torch.stack(losses).mean())
    metrics = model.get_metrics(reset=True)
    assert metrics["perplexity"] == pytest.approx(math.exp(output["loss"].item()))
    assert metrics["accuracy"] == pytest.approx(output["item_scores"].mean().item())


@pytest.mark.parametrize("alignment", ALIGNMENTS[:4], ids=str)
def test_a_question_is_predicted_alike_alone_and_among_others(alignment):
    instances = read()
    model = build(instances, latent_alignment=alignment)
    for instance, prediction in zip(instances, model.forward_on_instances(instances), strict=True):
        alone = model.forward_on_instance(instance)
        for key in ("answer_probs", "question_to_regions_attention"):
            torch.testing.assert_close(torch.tensor(alone[key]), torch.tensor(prediction[key]), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("alignment", ALIGNMENTS, ids=str)
def test_what_is_in_the_padding_does_not_matter(alignment):
    instances = read()
    model = build(instances, latent_alignment=alignment)
    outputs = []
    for noise in (0, 100):
        tensors = tensors_of(model, instances)
        tensors["regions"] += noise * ~tensors["region_mask"].unsqueeze(-1)
        torch.manual_seed(1)
        outputs.append(model(**tensors))
    for key in ("answer_probs", "question_to_regions_attention"):
        torch.testing.assert_close(outputs[0][key], outputs[1][key])


def test_accuracy_is_what_people_said_of_the_answer():
    instances = read()
    model = build(instances)
    given = run(model, instances)["answer_probs"].argmax(-1)
    for number, (instance, index) in enumerate(zip(instances, given.tolist(), strict=True)):
        name = model.vocab.get_token_from_index(index, "answers")
        instance["metadata"].metadata["answer_scores"] = {"something else": 1.0} | ({name: 0.3} if number % 3 else {})
    model.get_metrics(reset=True)
    torch.testing.assert_close(run(model, instances)["item_scores"], torch.tensor([0.0, 0.3, 0.3] * 4))
    assert model.get_metrics(reset=True)["accuracy"] == pytest.approx(0.2)


def test_unknown_answers_are_passed_over_but_for_the_accuracy():
    instances = read()
    answers = [instance["answer"].label for instance in instances]
    vocab = Vocabulary.from_instances(instances, min_count={"answers": 2})
    known = [instance for instance in instances if answers.count(instance["answer"].label) >= 2]
    assert 0 < len(known) < len(instances)
    model = build(instances, vocab)
    output = run(model, instances)
    assert output["answer_probs"][:, :2].eq(0).all()
    torch.testing.assert_close(output["answer_probs"].sum(-1), torch.ones(12))
    is_known = torch.tensor([answers.count(answer) >= 2 for answer in answers])
    assert output["item_scores"][~is_known].eq(0).all()
    accuracy = model.get_metrics(reset=True)["accuracy"]
    torch.testing.assert_close(output["loss"], run(model, known)["loss"])
    assert accuracy == pytest.approx(model.get_metrics(reset=True)["accuracy"] * len(known) / 12)

    model.train()
    torch.testing.assert_close(run(model, instances)["loss"], run(model, known)["loss"])
    unknown = [instance for instance in instances if instance not in known]
    loss = run(model, unknown)["loss"]
    loss.backward()
    assert loss == 0
    model.eval()
    assert run(model, unknown)["loss"] == 0
    assert "perplexity" not in model.get_metrics(reset=True)


@pytest.mark.parametrize("alignment", ["soft", "exact", "hard", "variational", "dirichlet"])
@pytest.mark.parametrize("attention", ["softmax", "sparsemax"])
def test_a_given_answer_is_scored_and_has_the_posterior_of_bayes_rule(alignment, attention):
    if (attention, alignment) == ("sparsemax", "dirichlet"):
        return  # which it refuses
    instances = read()
    model = build(instances, attention={"type": attention}, latent_alignment={"type": alignment}).eval()
    tensors = tensors_of(model, instances)
    answers = tensors["answer"].clone()
    answers[3] = 1  # the unknown one
    known = answers != 1
    tensors["answer"] = answers
    with torch.no_grad():
        output = model(**tensors)
        scores = model.score_answer(**tensors)
        # With one region to attend to, the likelihood is of that.
        likelihoods = torch.zeros_like(scores.weights)
        for region in range(likelihoods.size(1)):
            alone = torch.zeros_like(tensors["region_mask"])
            alone[:, region] = True
            probs = model(**{**tensors, "region_mask": alone})["answer_probs"]
            likelihoods[:, region] = probs.gather(1, answers.unsqueeze(1)).squeeze(1)
    expected = output["answer_probs"].gather(1, answers.unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(scores.log_probs.exp(), expected)
    assert scores.log_probs[3] == -math.inf
    torch.testing.assert_close(scores.weights, output["question_to_regions_attention"].squeeze(1))
    told = {"soft": 1, "exact": 2, "hard": 2}.get(alignment, 3)
    assert sum(one is not None for one in scores[1:]) == told == len(model.given_distributions)
    for one in scores[2:]:
        if one is not None:
            torch.testing.assert_close(one.sum(1), known.to(one.dtype))
            assert (one[~tensors["region_mask"]] == 0).all()
    if alignment in ("exact", "hard", "variational"):
        joint = scores.weights * likelihoods
        torch.testing.assert_close(scores.posterior[known], (joint / joint.sum(1, keepdim=True))[known])


def test_human_readable_output():
    instances = read()
    model = build(instances)
    for instance, prediction in zip(instances, model.forward_on_instances(instances), strict=True):
        metadata = instance["metadata"]
        assert prediction["question_to_regions_attention"].shape == (1, metadata["num_regions"])
        probabilities = list(prediction["probabilities"].values())
        assert len(probabilities) == 5 and probabilities == sorted(probabilities, reverse=True)
        assert prediction["answer"] == next(iter(prediction["probabilities"]))
        index = model.vocab.get_token_index(prediction["answer"], "answers")
        assert prediction["answer_probs"][index] == pytest.approx(probabilities[0])
        assert prediction["region_names"] == metadata["region_names"] and prediction["boxes"] == metadata["boxes"]


def test_an_alignment_refuses_what_it_cannot_be_combined_with():
    with pytest.raises(ConfigurationError, match="dirichlet"):
        build(read(), attention={"type": "dot_product"}, latent_alignment={"type": "dirichlet"})


# ---- by the command line ----


def metrics_of(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


def test_there_is_a_config_of_each_attention_and_alignment():
    attentions = {"softmax", "sparsemax", "fusedmax", "oscarmax"}
    estimators = ("enumeration", "reinforce", "gumbel_softmax", "wake_sleep")
    alignments = {"exact", "hard", "dirichlet", *(f"variational_{name}" for name in estimators)}
    assert {path.stem for path in CONFIGS} == attentions | alignments | {"vqa_v2"}
    for path in ON_THE_SAMPLE:
        model = Params.from_file(path).as_dict()["model"]
        if path.stem in attentions:
            assert (model["attention"]["type"], model["latent_alignment"]) == (path.stem, {"type": "soft"})
        else:
            alignment = model["latent_alignment"]
            name = "_".join(filter(None, [alignment["type"], alignment.get("estimator")]))
            assert (model["attention"]["type"], name) == ("softmax", path.stem)


def test_configs_differ_in_attention_and_alignment_alone():
    configs = [Params.from_file(path).as_dict() for path in ON_THE_SAMPLE]
    for one in configs:
        del one["model"]["attention"], one["model"]["latent_alignment"]
    assert all(one == configs[0] for one in configs)


@pytest.mark.parametrize("path", ON_THE_SAMPLE, ids=lambda path: path.stem)
def test_every_config_trains_evaluates_and_predicts(allennlp, path, tmp_path):
    allennlp("train", path, "-s", tmp_path / "run", "--overrides", json.dumps(TINY), *INCLUDE)
    archive = tmp_path / "run" / "model.tar.gz"
    allennlp("evaluate", archive, TINY["validation_data_path"], "--output-file", tmp_path / "metrics.json", *INCLUDE)
    evaluated = metrics_of(tmp_path)
    trained = metrics_of(tmp_path / "run")
    assert evaluated["perplexity"] >= 1 and 0 <= evaluated["accuracy"] <= 1
    if path.stem != "dirichlet":  # whose marginal is an estimate by samples
        for key in ("accuracy", "perplexity", "loss"):
            assert evaluated[key] == pytest.approx(trained[f"best_validation_{key}"], rel=1e-4)
    (tmp_path / "in.jsonl").write_text('{"question": "is there a star?", "image_id": "validation-3"}\n')
    allennlp(
        "predict", archive, tmp_path / "in.jsonl", "--output-file", tmp_path / "out.jsonl", "--silent", *INCLUDE
    )  # fmt: skip
    prediction = json.loads((tmp_path / "out.jsonl").read_text())
    assert prediction["answer"] in prediction["probabilities"]
    assert sum(prediction["question_to_regions_attention"][0]) == pytest.approx(1, abs=1e-5)


def test_learns_the_sample(allennlp, tmp_path):
    """By the questions alone it would be below 0.34 (see sample_scenes_test.py); all 16 epochs give 0.97."""
    config = PROJECT_ROOT / "training_configs" / "vqa" / "softmax.jsonnet"
    allennlp("train", config, "-s", tmp_path / "run", "--overrides", json.dumps({"trainer.num_epochs": 6}), *INCLUDE)
    assert metrics_of(tmp_path / "run")["best_validation_accuracy"] > 0.6


def test_vqa_v2_from_files_of_its_format(allennlp, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for split in ("train", "val"):
        questions, annotations = (
            tmp_path / name.replace("train", split) for name in (QUESTIONS_NAME, ANNOTATIONS_NAME)
        )
        questions.write_text(json.dumps({"questions": QUESTIONS}))
        annotations.write_text(json.dumps({"annotations": [annotation(one["question_id"]) for one in QUESTIONS]}))
    overrides = {
        "dataset_reader.region_features": str(write_features(tmp_path / "features.h5", layout())),
        "train_data_path": str(tmp_path / QUESTIONS_NAME),
        "validation_data_path": str(tmp_path / QUESTIONS_NAME.replace("train", "val")),
        "vocabulary.min_count.answers": 1,
        "model.region_feedforward.input_dim": 3,
        "trainer.num_epochs": 30,
        "trainer.patience": None,
    }
    config = PROJECT_ROOT / "training_configs" / "vqa" / "vqa_v2.jsonnet"
    allennlp("train", config, "-s", "run", "--overrides", json.dumps(overrides), *INCLUDE)
    assert metrics_of(tmp_path / "run")["best_validation_accuracy"] == 1
    archive = load_archive(tmp_path / "run" / "model.tar.gz")
    assert set(archive.model.vocab.get_token_to_index_vocabulary("answers")) >= {"black", "no", "2"}
