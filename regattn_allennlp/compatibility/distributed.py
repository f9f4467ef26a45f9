"""Training in several processes and on several machines."""

import functools
import inspect
import json
import os
import socket
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from regattn_allennlp.compatibility.mend import mend

TESTS = "tests/commands/distributed_test.py"
BLOCK_KEYS = ("cuda_devices", "ddp_accelerator", "num_nodes", "primary_address", "primary_port")


@mend(
    "allennlp.commands.train",
    puts_back="Several machines train together, in one shared folder too, and a mistake in the `distributed` block is "
    "named",
    versions="allennlp==2.10.1",
    test=f"{TESTS}::test_two_machines_train_as_two_processes_do_and_go_on_when_one_died",
)
def train_on_several_machines(train: Any) -> None:
    train_model = train.train_model
    signature = inspect.signature(train_model)
    node_rank = 0

    @functools.wraps(train_model)
    def train_model_on_this_machine(*args: Any, **kwargs: Any) -> Any:
        nonlocal node_rank
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        block = bound.arguments["params"].params.get("distributed")
        if block is None:
            return train_model(*args, **kwargs)
        check_block(block)
        variables = interface_for_gloo(block["primary_address"]) if block.get("num_nodes", 1) > 1 else {}
        node_rank = bound.arguments["node_rank"]
        if node_rank > 0:
            # The folder may be shared with the first machine. What is trained is there, and here the vocabulary and
            # the logs, so that a machine which takes the place of another needs nothing of it.
            folder = f"{Path(bound.arguments['serialization_dir'])}.node{node_rank}"
            recover = bound.arguments["recover"] and os.path.exists(folder)
            bound.arguments.update(serialization_dir=folder, recover=recover)
        os.environ.update(variables)
        try:
            return train_model(*bound.args, **bound.kwargs)
        finally:
            node_rank = 0
            for name in variables:
                del os.environ[name]

    train.train_model = train_model_on_this_machine

    archive_model = train.archive_model

    @functools.wraps(archive_model)
    def archive_model_on_the_first_machine(*args: Any, **kwargs: Any) -> Any:
        return archive_model(*args, **kwargs) if node_rank == 0 and is_first() else None

    train.archive_model = archive_model_on_the_first_machine

    finish = train.TrainModel.finish

    @functools.wraps(finish)
    def finish_on_the_first_machine(self: Any, metrics: Any) -> None:
        if is_first():
            finish(self, metrics)

    train.TrainModel.finish = finish_on_the_first_machine


def check_block(block: dict[str, Any]) -> None:
    """AllenNLP passes over what it does not know in this block, and the processes would wait for each other."""
    from allennlp.common.checks import ConfigurationError

    for key in block:
        if key not in BLOCK_KEYS:
            raise ConfigurationError(f'"distributed" has no key "{key}"; it may have {", ".join(BLOCK_KEYS)}.')
    for key in ("primary_address", "primary_port"):
        if block.get("num_nodes", 1) > 1 and key not in block:
            raise ConfigurationError(
                f'"distributed" needs "{key}" where "num_nodes" is {block["num_nodes"]}: the address of the first '
                "machine and a free port there, by which the others find it."
            )


def interface_for_gloo(primary_address: str) -> dict[str, str]:
    """
    The variable of the environment that tells gloo, the backend of CPUs, by which network interface the first machine
    is reached. On its own, gloo tells the others the address that this machine has for its own name, which is often
    127.0.1.1. Nothing, if the variable is there, or the interface cannot be found out.
    """
    from allennlp.common.checks import ConfigurationError

    if "GLOO_SOCKET_IFNAME" in os.environ or sys.platform != "linux" or ":" in primary_address:  # of IPv6
        return {}
    import fcntl

    get_address = 0x8915  # SIOCGIFADDR of linux/sockios.h
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((primary_address, 1))  # which sends nothing
        except OSError as error:
            raise ConfigurationError(
                f'"distributed.primary_address" is {primary_address}, which cannot be reached from here: {error}'
            ) from error
        own_address = socket.inet_aton(probe.getsockname()[0])
        if own_address[0] == 127 and primary_address != "localhost" and not primary_address.startswith("127."):
            raise ConfigurationError(
                f'"distributed.primary_address" is {primary_address}, by which this machine means itself, '
                f"{probe.getsockname()[0]}: give the address by which the others reach it."
            )
        for _, name in socket.if_nameindex():
            try:
                request = fcntl.ioctl(probe, get_address, struct.pack("256s", name.encode()))
            except OSError:  # it has no address
                continue
            if request[20:24] == own_address:
                return {"GLOO_SOCKET_IFNAME": name}
    return {}


@mend(
    "allennlp.commands.train",
    puts_back="`evaluate_on_test` after a training in several processes: one of them evaluates on all test data",
    versions="allennlp==2.10.1",
    test=f"{TESTS}::test_trains_with_two_processes_and_two_loader_workers_each",
)
def evaluate_on_test_in_one_process(train: Any) -> None:
    train_model = train.train_model
    signature = inspect.signature(train_model)

    @functools.wraps(train_model)
    def train_and_evaluate_model(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        config = bound.arguments["params"].duplicate().as_dict(quiet=True)  # which is consumed
        model = train_model(*args, **kwargs)
        is_to_be_evaluated = all(map(config.get, ("distributed", "evaluate_on_test", "test_data_path")))
        if is_to_be_evaluated and bound.arguments["node_rank"] == 0 and not bound.arguments["dry_run"]:
            add_test_metrics(Path(bound.arguments["serialization_dir"]), config)
        return model

    train.train_model = train_and_evaluate_model

    finish = train.TrainModel.finish

    @functools.wraps(finish)
    def finish_without_test_data(self: Any, metrics: Any) -> None:
        from allennlp.common.util import is_distributed

        # AllenNLP evaluates in the first process, on its share of the data, and asks the others for theirs, which are
        # over by then.
        if is_distributed() and self.evaluate_on_test:
            self.evaluation_data_loader = None
        finish(self, metrics)

    train.TrainModel.finish = finish_without_test_data


def add_test_metrics(folder: Path, config: dict[str, Any]) -> None:
    """Evaluates the archive in a folder on its config's test data, and adds what comes of it to `metrics.json`."""
    from allennlp.commands.evaluate import evaluate_from_archive
    from allennlp.common import util

    test_metrics = evaluate_from_archive(
        folder / "model.tar.gz",
        json.dumps(config["test_data_path"]),
        cuda_device=config["distributed"]["cuda_devices"][0],
        batch_weight_key=config.get("batch_weight_key", ""),
    )
    path = folder / "metrics.json"
    metrics = json.loads(path.read_text(encoding="utf-8"))
    metrics.update({f"test_{name}": value for name, value in test_metrics.items()})
    util.dump_metrics(str(path), metrics, log=True)


@mend(
    "allennlp.training.trainer",
    puts_back="Of several machines, the first alone writes checkpoints, metrics and weights",
    versions="allennlp==2.10.1",
    test=f"{TESTS}::test_two_machines_train_as_two_processes_do_and_go_on_when_one_died",
)
def let_the_first_machine_write(trainer: Any) -> None:
    initialize = trainer.Trainer.__init__

    @functools.wraps(initialize)
    def initialize_with_one_primary(self: Any, *args: Any, **kwargs: Any) -> None:
        initialize(self, *args, **kwargs)
        # AllenNLP takes the first process of each machine for the one that writes.
        self._primary = self._primary and is_first()

    trainer.Trainer.__init__ = initialize_with_one_primary


@mend(
    "allennlp.training.checkpointer",
    puts_back="Several machines go on from the checkpoint of the first, which the others need not have",
    versions="allennlp==2.10.1",
    test=f"{TESTS}::test_two_machines_train_as_two_processes_do_and_go_on_when_one_died",
)
def load_the_checkpoint_of_the_first_machine(checkpointer: Any) -> None:
    load_checkpoint = checkpointer.Checkpointer.load_checkpoint

    @functools.wraps(load_checkpoint)
    def load_checkpoint_of_the_first(self: Any) -> Any:
        if self.state_is_sharded:  # each process has its own
            return load_checkpoint(self)
        return of_the_first(lambda: load_checkpoint(self))

    checkpointer.Checkpointer.load_checkpoint = load_checkpoint_of_the_first


@mend(
    "allennlp.training.gradient_descent_trainer",
    puts_back="All machines end a training with the best weights, which the first has",
    versions="allennlp==2.10.1",
    test=f"{TESTS}::test_two_machines_train_as_two_processes_do_and_go_on_when_one_died",
)
def load_the_best_weights_of_the_first_machine(gradient_descent_trainer: Any) -> None:
    trainer = gradient_descent_trainer.GradientDescentTrainer
    load_model_state = trainer._load_model_state

    @functools.wraps(load_model_state)
    def load_model_state_of_the_first(self: Any, path: str) -> None:
        # Nothing is done with the weights of the others after the training.
        if is_first():
            load_model_state(self, path)

    trainer._load_model_state = load_model_state_of_the_first


def is_first() -> bool:
    """Whether this is the first process of the first machine, or the only process."""
    import torch.distributed as dist
    from allennlp.common.util import is_distributed

    return not is_distributed() or dist.get_rank() == 0


def of_the_first(make: Callable[[], Any]) -> Any:
    """What the function gives in the first process of the first machine, in all of them."""
    import torch.distributed as dist
    from allennlp.common.util import is_distributed

    if not is_distributed():
        return make()
    made = [make() if dist.get_rank() == 0 else None]
    dist.broadcast_object_list(made, src=0)
    return made[0]
