"""Every config of sequence_pairs trains, evaluates and predicts by the `allennlp` command line."""

import json

import pytest
import torch
from allennlp.common import Params
from allennlp.predictors import Predictor

import regattn_allennlp.config_variables  # noqa: F401  (the configs read the environment)
from tests.conftest import PROJECT_ROOT

TASKS = {
    "g2p": ["exact_match", "phoneme_error_rate"],
    "translation": ["bleu", "chrf"],
    "summarization": ["rouge-1", "rouge-2", "rouge-l"],
}
CONFIGS = sorted(path for task in TASKS for path in PROJECT_ROOT.glob(f"training_configs/{task}/*.jsonnet"))
DENG2018 = {path for path in CONFIGS if path.stem.startswith("deng2018_")}
ATTENTIONS = {"softmax", "sparsemax", "fusedmax", "oscarmax"}
ALIGNMENTS = {
    "exact", "hard", "variational_enumeration", "variational_reinforce", "variational_gumbel_softmax",
    "variational_wake_sleep", "dirichlet",
}  # fmt: skip
INCLUDE = ("--include-package", "regattn_allennlp")
SMALL = {
    "trainer.num_epochs": 1,
    "dataset_reader.config_name": None,
    "model.beam_search": {"type": "beam_search", "beam_size": 4, "max_steps": 5},
    "model.source_text_field_embedder.token_embedders.tokens.embedding_dim": 16,
    "model.encoder.input_size": 16,
    "model.encoder.hidden_size": 8,
    "model.target_embedding_dim": 16,
    "model.decoder_hidden_dim": 16,
}
PAIRS = [("ein Hund schläft .", "a dog sleeps ."), ("zwei Katzen", "two cats"), ("ein Mann liest", "a man reads")]


def row(task: str, source: str, target: str) -> dict:
    if task == "translation":
        return {"translation": {"de": source, "en": target}}
    return (
        {"article": source, "highlights": target} if task == "summarization" else {"source": source, "target": target}
    )


def names(task: str) -> set[str]:
    return {path.stem for path in CONFIGS if path.parent.name == task and path not in DENG2018}


def test_there_is_a_config_for_each_attention_and_each_alignment():
    assert names("summarization") == ATTENTIONS
    assert names("translation") == names("g2p") == ATTENTIONS | ALIGNMENTS
    assert {path.stem.removeprefix("deng2018_") for path in DENG2018} == {"soft"} | ALIGNMENTS - {"dirichlet"}


@pytest.mark.parametrize("task", TASKS)
def test_configs_differ_in_the_attention_or_the_alignment_alone(task):
    paths = [path for path in CONFIGS if path.parent.name == task and path not in DENG2018]
    configs = {path.stem: Params.from_file(path).as_dict()["model"] for path in paths}
    for name, model in configs.items():
        if name in ATTENTIONS:
            assert model.pop("attention")["type"] == name
            model.pop("latent_alignment", None)
        else:
            alignment = model.pop("latent_alignment")
            assert "_".join(alignment[key] for key in ("type", "estimator") if key in alignment) == name
            assert model.pop("attention")["type"] == "softmax"
            if model.get("label_smoothing") == 0:
                model["label_smoothing"] = configs["softmax"]["label_smoothing"]
    assert all(model == configs["softmax"] for model in configs.values())


def test_the_configs_of_deng_2018_differ_in_the_alignment_alone():
    configs = [Params.from_file(path).as_dict() for path in sorted(DENG2018)]
    alignments = [config["model"].pop("latent_alignment") for config in configs]
    assert all(config == configs[0] for config in configs)
    networks = [alignment["inference_network"] for alignment in alignments if alignment["type"] == "variational"]
    assert len(networks) == 4 and all(network == networks[0] for network in networks)


@pytest.mark.parametrize("metric, expected", [("bleu", "+bleu"), ("phoneme_error_rate", "-phoneme_error_rate")])
def test_trainings_learn_by_low_error_rates_and_high_scores(metric, expected, tmp_path):
    common = PROJECT_ROOT / "training_configs" / "common" / "sequence_pairs.libsonnet"
    arguments = (
        "attention={}, data={ train: '', validation: '', reader: {} }, tokens={ fields: {}, units: '' }, dim=2, "
        f"num_layers=1, dropout=0, batch_size=1, trainer={{}}, text_metrics=['{metric}', 'exact_match']"
    )
    (tmp_path / "config.jsonnet").write_text(f"(import '{common}').sequence_pairs({arguments})")
    assert Params.from_file(tmp_path / "config.jsonnet")["trainer"]["validation_metric"] == expected


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_config_trains_evaluates_and_predicts(allennlp, config, tmp_path, monkeypatch):
    # Their sizes are changed by one number.
    monkeypatch.setenv("DENG2018_DIM", "8")
    task = config.parent.name
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(row(task, *pair)) + "\n" for pair in PAIRS))
    small = {"trainer.num_epochs": 1} if config in DENG2018 else SMALL
    overrides = {"train_data_path": str(data), "validation_data_path": str(data), **small}
    run = tmp_path / "run"
    allennlp("train", config, "-s", run, "--overrides", json.dumps(overrides), *INCLUDE)
    allennlp("evaluate", run / "model.tar.gz", data, "--output-file", tmp_path / "metrics.json", *INCLUDE)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics.keys() >= {*TASKS[task], "perplexity", "loss", "target_to_source_zeros"}
    validated = json.loads((run / "metrics.json").read_text())
    assert all(validated[f"best_validation_{name}"] == pytest.approx(metrics[name], rel=1e-4) for name in TASKS[task])
    assert validated["best_validation_perplexity"] == pytest.approx(metrics["perplexity"], rel=1e-4)

    (tmp_path / "input.jsonl").write_text('{"source": "ein Hund liest"}\n')
    allennlp(
        "predict", run / "model.tar.gz", tmp_path / "input.jsonl", "--output-file", tmp_path / "predictions", *INCLUDE
    )  # fmt: skip
    (prediction,) = [json.loads(line) for line in (tmp_path / "predictions").read_text().splitlines()]
    assert prediction["source_tokens"] == ["ein", "Hund", "liest"]


def test_the_environment_chooses_subwords(allennlp, tmp_path, monkeypatch):
    data, subwords = tmp_path / "data.jsonl", tmp_path / "subwords.model"
    data.write_text("".join(json.dumps(row("translation", *pair)) + "\n" for pair in PAIRS))
    allennlp(
        "train-subwords", data, "-s", subwords, "--vocab-size", "40", "--source-column", "translation.de",
        "--target-column", "translation.en", *INCLUDE,
    )  # fmt: skip
    monkeypatch.setenv("SUBWORDS", str(subwords))
    overrides = {"train_data_path": str(data), "validation_data_path": str(data), **SMALL}
    config = PROJECT_ROOT / "training_configs" / "translation" / "sparsemax.jsonnet"
    allennlp("train", config, "-s", tmp_path / "run", "--overrides", json.dumps(overrides), *INCLUDE)
    predictor = Predictor.from_path(str(tmp_path / "run"))
    prediction = predictor.predict("ein Mann")
    assert len(prediction["source_tokens"]) > 2
    assert "".join(prediction["source_tokens"]) == "▁ein▁Mann"
    best = prediction["predictions"][0]
    assert best["text"] == "".join(best["tokens"]).replace("▁", " ").strip()


def test_a_relaxed_alignment_begins_with_the_weights_of_soft_attention(allennlp, tmp_path):
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps({"source": a, "target": b}) + "\n" for a, b in PAIRS))
    paths = {"train_data_path": str(data), "validation_data_path": str(data)}
    folder = PROJECT_ROOT / "training_configs" / "g2p"
    soft = tmp_path / "soft"
    allennlp("train", folder / "softmax.jsonnet", "-s", soft, "--overrides", json.dumps({**paths, **SMALL}), *INCLUDE)
    archive = {"type": "pretrained", "weights_file_path": str(soft / "model.tar.gz")}
    overrides = {
        **paths,
        **SMALL,
        "trainer.num_epochs": 2,
        "trainer.optimizer.lr": 1e-12,  # the weights are as they began
        "vocabulary": {"type": "from_files", "directory": str(soft / "vocabulary")},
        "model.initializer.regexes": [["^(?!_latent_alignment)", archive]],
        "model.latent_alignment.warm_up_batches": 1,
        "model.latent_alignment.kl_weight": {"initial": 0.5, "final": 1.0, "num_batches": 2},
    }
    relaxed = tmp_path / "relaxed"
    allennlp(
        "train", folder / "dirichlet.jsonnet", "-s", relaxed, "--overrides", json.dumps(overrides), *INCLUDE
    )  # fmt: skip
    before, after = (torch.load(run / "best.th") for run in (soft, relaxed))
    assert set(before) == {name for name in after if not name.startswith("_latent_alignment")}
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)
    batches = [after[f"_latent_alignment.{schedule}._batch"].item() for schedule in ("_warming_up", "_kl_weight")]
    assert batches[0] == batches[1] and batches[0] in (1, 2)
