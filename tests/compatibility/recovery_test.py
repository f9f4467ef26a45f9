"""Trainings that are killed and gone on with end as if nothing had happened."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from allennlp.commands.train import train_model_from_file
from allennlp.data.samplers import BatchSampler
from allennlp.models import Model
from allennlp.training.callbacks import TrainerCallback
from allennlp.training.learning_rate_schedulers import LearningRateScheduler
from allennlp.training.momentum_schedulers import MomentumScheduler

import regattn_allennlp.config_variables  # noqa: F401  (the configs read the environment)
from regattn_allennlp.models import RegularizedDecomposableAttention
from tests.compatibility.killed import after_checkpoint, assert_alike, best_weights, kill_in, numbers
from tests.conftest import PROJECT_ROOT

CONFIGS = PROJECT_ROOT / "training_configs"
TINY = {
    "train_data_path": "sample:train[:48]",
    "validation_data_path": "sample:validation[:24]",
    "data_loader.batch_sampler.batch_size": 16,
    "trainer.num_epochs": 3,
}
PAIRS = [("ein Hund schläft .", "a dog sleeps ."), ("zwei Katzen", "two cats"), ("ein Mann liest", "a man reads")]
SMALL_SEQUENCES = {
    "data_loader.batch_sampler.batch_size": 2,
    "model.beam_search": {"type": "beam_search", "beam_size": 2, "max_steps": 4},
    "model.source_text_field_embedder.token_embedders.tokens.embedding_dim": 16,
    "model.encoder.input_size": 16,
    "model.encoder.hidden_size": 8,
    "model.target_embedding_dim": 16,
    "model.decoder_hidden_dim": 16,
}
# One config of each folder, and what makes it small.
TASKS = {
    "sample/softmax": {},
    "snli/softmax": {"data_loader.max_instances_in_memory": 16},
    "g2p/softmax": SMALL_SEQUENCES,
    "translation/softmax": {**SMALL_SEQUENCES, "dataset_reader.config_name": None},
    "summarization/softmax": {**SMALL_SEQUENCES, "dataset_reader.config_name": None},
    "vqa/variational_reinforce": {},
    "alignment/entailment": {},
    "alignment/graph": {"data_loader": {"batch_size": 16, "shuffle": True}},
}
LAYERS = [[["text_field_embedder"], {}], [["attend", "compare"], {}], [["aggregate", "label"], {}]]
LEARNING_RATES = {
    "constant": {},
    "constant_with_warmup": {"num_warmup_steps": 4},
    "cosine": {"t_initial": 3},
    "cosine_with_warmup": {"num_warmup_steps": 1, "num_training_steps": 4},
    "cosine_hard_restarts_with_warmup": {"num_warmup_steps": 1, "num_training_steps": 4, "num_cycles": 2},
    "exponential": {"gamma": 0.5},
    "linear_with_warmup": {"warmup_steps": 4},
    "multi_step": {"milestones": [1, 2]},
    "noam": {"model_size": 100, "warmup_steps": 4},
    "polynomial_decay": {"power": 2, "warmup_steps": 1},
    "reduce_on_plateau": {"mode": "max", "patience": 0},
    "slanted_triangular": {},
    "step": {"step_size": 1, "gamma": 0.5},
    "combined": {
        "schedulers": [
            [1, "constant"],
            [2, {"type": "constant_with_warmup", "num_warmup_steps": 4}],
        ]
    },
}
MOMENTA = {"inverted_triangular": {"cool_down": 1, "warm_up": 2}}
SAMPLERS = {
    "bucket": {"batch_size": 16, "sorting_keys": ["premise"]},
    "max_tokens_sampler": {"max_tokens": 300, "sorting_keys": ["premise"]},
}
# After the first epoch it goes up where it should go down.
BEST_AT_FIRST = {
    "trainer.learning_rate_scheduler": {"type": "multi_step", "milestones": [1], "gamma": -3},
    "trainer.validation_metric": "-loss",
}
TRAINERS = {
    "unfreezing": {
        "trainer.optimizer": {"type": "adam", "parameter_groups": LAYERS},
        "trainer.learning_rate_scheduler": {"type": "slanted_triangular", "gradual_unfreezing": True},
    },
    "momentum": {
        "trainer.optimizer": {"type": "sgd", "lr": 0.1, "momentum": 0.9},
        "trainer.momentum_scheduler": {"type": "inverted_triangular", **MOMENTA["inverted_triangular"]},
    },
    "average": {"trainer.moving_average": {"decay": 0.5}},
    "accumulation": {"trainer.num_gradient_accumulation_steps": 2},
    "patience": {"trainer.patience": 1, "trainer.num_epochs": 5, "trainer.optimizer.lr": 0.1},
    "multi": {
        "trainer.optimizer": {
            "type": "multi",
            "optimizers": {"default": {"type": "adam"}, "words": {"type": "sgd", "lr": 0.1}},
            "parameter_groups": [[["text_field_embedder"], {"optimizer_name": "words"}]],
        }
    },
    **{
        f"rate {name}": {"trainer.learning_rate_scheduler": {"type": name, **more}}
        for name, more in LEARNING_RATES.items()
    },
}  # fmt: skip
LOADERS = {
    **{f"sampler {name}": {"batch_sampler": {"type": name, **more}} for name, more in SAMPLERS.items()},
    "shuffled": {"batch_size": 16, "shuffle": True},
    "lazy": {"batch_size": 16, "shuffle": True, "max_instances_in_memory": 20},
    "worker": {"batch_size": 16, "shuffle": True, "max_instances_in_memory": 20, "num_workers": 1},
    "parts": {"batch_size": 16, "shuffle": True, "batches_per_epoch": 2},
    "simple": {"type": "simple", "batch_size": 16, "shuffle": True},
    "cached": {"type": "cached", "batch_size": 16, "shuffle": True, "max_instances_in_memory": 20},
    "cached parts": {"type": "cached", "batch_size": 16, "shuffle": True, "batches_per_epoch": 2},
}
SETUPS = {
    **{name: (name, more) for name, more in TASKS.items()},
    **{name: ("sample/softmax", more) for name, more in TRAINERS.items()},
    **{f"loader {name}": ("sample/softmax", {"data_loader": block}) for name, block in LOADERS.items()},
}


@pytest.fixture(autouse=True)
def one_thread():
    """A process that is copied has none of the threads that compute in this one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def train(allennlp, tmp_path):
    """
    Trains a config in a folder of this name, and returns the folder: what `allennlp train` does, but for looking for
    plugins, which is most of the time.
    """

    def run(name: str, config: str, overrides: dict, recover: bool = False) -> Path:
        task = config.split("/")[0]
        settings = {**TINY, **overrides}
        if "data_loader" in overrides:
            del settings["data_loader.batch_sampler.batch_size"]
        if task in ("translation", "summarization"):
            data = tmp_path / "data.jsonl"
            data.write_text("".join(json.dumps(row(task, *pair)) + "\n" for pair in PAIRS * 2))
            settings.update({"train_data_path": str(data), "validation_data_path": str(data)})
        elif config == "sample/softmax":
            settings["dataset_reader.tokenizer"] = "whitespace"
        path = CONFIGS / f"{config}.jsonnet"
        train_model_from_file(path, tmp_path / name, json.dumps(settings), recover)
        return tmp_path / name

    return run


def row(task: str, source: str, target: str) -> dict:
    if task == "translation":
        return {"translation": {"de": source, "en": target}}
    return {"article": source, "highlights": target}


def killed_and_recovered(train, tmp_path: Path, config: str, overrides: dict, kill_when) -> Path:
    kill_in(lambda: train("killed", config, overrides), kill_when)
    first_epoch = tmp_path / "killed" / "metrics_epoch_0.json"
    before = first_epoch.stat().st_mtime_ns
    assert not (tmp_path / "killed" / "metrics.json").exists()
    train("killed", config, overrides, recover=True)
    assert first_epoch.stat().st_mtime_ns == before, "it began anew"
    return tmp_path / "killed"


@pytest.mark.parametrize("setup", SETUPS)
def test_a_killed_training_ends_with_the_numbers_of_an_uninterrupted_one(train, tmp_path, setup):
    config, overrides = SETUPS[setup]
    expected = train("expected", config, overrides)
    assert_alike(killed_and_recovered(train, tmp_path, config, overrides, after_checkpoint(2)), expected)


def test_every_scheduler_and_sampler_is_tried():
    own = {"regattn_allennlp"}
    for kind, tried in (LearningRateScheduler, LEARNING_RATES), (MomentumScheduler, MOMENTA), (BatchSampler, SAMPLERS):
        names = {name for name in kind.list_available() if kind.by_name(name).__module__.split(".")[0] not in own}
        assert names == tried.keys()


# Batches of 16 in an epoch: three.
@pytest.mark.parametrize("accumulated, batches", [(1, 1), (1, 3), (2, 1), (2, 2)])
@pytest.mark.parametrize("loader", ["lazy", "sampler bucket"])
def test_a_checkpoint_in_the_middle_of_an_epoch(train, tmp_path, loader, accumulated, batches):
    config = "sample/softmax"
    overrides = {
        "data_loader": LOADERS[loader],
        "trainer.checkpointer": {"save_every_num_batches": 1},
        "trainer.num_gradient_accumulation_steps": accumulated,
        "model.regularizer": {"regexes": [[".*weight", {"type": "l2", "alpha": 0.01}]]},
    }
    expected = train("expected", config, overrides)
    folder = killed_and_recovered(train, tmp_path, config, overrides, after_checkpoint(1, batches))
    # Of the epoch that was interrupted the losses are summed up in another order.
    for name, metrics in numbers(expected).items():
        assert numbers(folder)[name] == pytest.approx(metrics, rel=1e-12)
    assert numbers(folder)["metrics_epoch_2.json"] == numbers(expected)["metrics_epoch_2.json"]
    weights = best_weights(expected)
    assert all(torch.equal(value, weights[name]) for name, value in best_weights(folder).items())


@pytest.mark.parametrize("setup", ["patience", "average", "rate cosine"])
def test_a_training_that_is_over_stays_as_it_is(train, setup):
    config, overrides = SETUPS[setup]
    folder = train("run", config, overrides)
    before, weights = (folder / "metrics.json").read_text(), best_weights(folder)
    if setup == "patience":
        assert json.loads(before)["epoch"] < overrides["trainer.num_epochs"] - 1
    (folder / "model.tar.gz").unlink()  # as if it had been killed before it wrote that
    train("run", config, overrides, recover=True)
    assert (folder / "metrics.json").read_text() == before
    assert (folder / "model.tar.gz").exists()
    assert all(torch.equal(value, weights[name]) for name, value in best_weights(folder).items())


@pytest.mark.parametrize("average", [{}, TRAINERS["average"]], ids=["last", "average"])
def test_the_best_weights_survive_a_kill_before_they_are_written(train, tmp_path, average):
    overrides = {**average, **BEST_AT_FIRST}
    expected = train("expected", "sample/softmax", overrides)
    assert numbers(expected)["metrics.json"]["best_epoch"] == 0
    kill_in(lambda: train("killed", "sample/softmax", overrides), after_checkpoint(1))
    assert not (tmp_path / "killed" / "best.th").exists()
    train("killed", "sample/softmax", overrides, recover=True)
    assert_alike(tmp_path / "killed", expected)


def test_a_folder_that_was_moved_recovers(train, tmp_path):
    overrides = BEST_AT_FIRST
    expected = train("expected", "sample/softmax", overrides)
    kill_in(lambda: train("killed", "sample/softmax", overrides), after_checkpoint(2))
    (tmp_path / "killed").rename(tmp_path / "moved")
    assert_alike(train("moved", "sample/softmax", overrides, recover=True), expected)


def test_a_moving_average_goes_on_with_the_parameters_of_the_model(train, tmp_path):
    overrides = {**TRAINERS["average"], "trainer.validation_metric": "-loss"}
    expected = train("expected", "sample/softmax", overrides)
    assert numbers(expected)["metrics.json"]["best_epoch"] == 2
    folder = killed_and_recovered(train, tmp_path, "sample/softmax", overrides, after_checkpoint(2))
    assert_alike(folder, expected)


@TrainerCallback.register("log_epochs_of_recovery_test")
class LogEpochs(TrainerCallback):
    """Writes what the model takes for its epoch, whether the epoch will be validated, and what looks on."""

    def on_batch(
        self, trainer, batch_inputs, batch_outputs, batch_metrics, epoch, batch_number, is_training, **kwargs
    ):
        with open(Path(self.serialization_dir, f"seen_{epoch}.txt"), "w") as file:
            hooks = sum(len(module._forward_hooks) for module in trainer.model.modules())
            file.write(f"{trainer.model.epoch} {trainer._should_validate_this_epoch} {hooks}")


def test_callbacks_know_the_epoch_that_is_gone_on_with(train, tmp_path):
    kinds = ("track_epoch_callback", {"type": "should_validate_callback", "validation_interval": 2})
    overrides = {
        "trainer.callbacks": [*kinds, "log_epochs_of_recovery_test"],
        "trainer.num_epochs": 5,
        "trainer.validation_metric": "-loss",
    }
    folder = killed_and_recovered(train, tmp_path, "sample/softmax", overrides, after_checkpoint(3))
    seen = {path.name: path.read_text() for path in folder.glob("seen_*.txt")}
    assert seen == {f"seen_{epoch}.txt": f"{epoch} {epoch % 2 == 0} 0" for epoch in range(5)}


@Model.register("entailment_with_a_metric_of_numpy")
class EntailmentWithAMetricOfNumpy(RegularizedDecomposableAttention):
    def get_metrics(self, reset: bool = False) -> dict:
        metrics = super().get_metrics(reset)
        return {**metrics, "of_numpy": np.float64(metrics["accuracy"])}


def test_a_metric_of_numpy_is_no_hindrance(train, tmp_path):
    overrides = {
        "model.type": "entailment_with_a_metric_of_numpy",
        "trainer.validation_metric": "+of_numpy",
        "trainer.learning_rate_scheduler": {"type": "reduce_on_plateau", "mode": "max", "patience": 0},
    }
    expected = train("expected", "sample/softmax", overrides)
    states = torch.load(expected / "training_state_e3_b0.th", weights_only=True)  # without any other class
    assert type(states["metric_tracker"]["best_epoch_metrics"]["of_numpy"]) is float
    assert_alike(killed_and_recovered(train, tmp_path, "sample/softmax", overrides, after_checkpoint(2)), expected)


def test_a_checkpoint_without_random_states_is_gone_on_from(train, tmp_path):
    # As an older version wrote it.
    overrides: dict = {}
    kill_in(lambda: train("killed", "sample/softmax", overrides), after_checkpoint(2))
    path = tmp_path / "killed" / "training_state_e2_b0.th"
    states = torch.load(path)
    del states["regattn_allennlp_progress"]
    torch.save(states, path)
    train("killed", "sample/softmax", overrides, recover=True)
    assert numbers(tmp_path / "killed")["metrics.json"]["epoch"] == 2
