import argparse
import logging
import signal

from allennlp.commands.subcommand import Subcommand
from allennlp.common.checks import ConfigurationError

from regattn_allennlp.commands.help_formatter import HelpFormatter
from regattn_allennlp.models import RegularizedDecomposableAttention
from regattn_allennlp.predictors.archives import load_predictors, read_config, task_of
from regattn_allennlp.server import LoadedModels, create_application, is_loopback, open_socket, serve
from regattn_allennlp.server.loaded_models import MAX_CHARACTERS, MAX_TOKENS
from regattn_allennlp.server.schema import AttentionRequest

DESCRIPTION = """\
Serves a web page on this machine: type a premise and a hypothesis, and see what models attend to, side by side, and
what they conclude. Sliders change the regularization of their attention (gamma, lam, alpha) without training anew.

  allennlp serve-attention output/softmax output/fusedmax

serves two models at http://127.0.0.1:8000/; open it in a browser, and stop it with Ctrl-C. The same as JSON:

  curl http://127.0.0.1:8000/api/attention \\
      -H "Content-Type: application/json" \\
      -d '{"premise": "A dog sleeps.", "hypothesis": "An animal sleeps.",
           "regularization": {"fusedmax": {"lam": 1}}}'

All that is served comes from this machine: the page loads nothing from elsewhere.
"""


@Subcommand.register("serve-attention")
class ServeAttention(Subcommand):
    """`allennlp serve-attention`: a local web page that shows what models attend to. See docs/server.md."""

    def add_subparser(self, parser: argparse._SubParsersAction) -> argparse.ArgumentParser:
        subparser = parser.add_parser(
            self.name,
            description=DESCRIPTION,
            help="Serve a web page that shows what models attend to.",
            formatter_class=HelpFormatter,
        )
        subparser.add_argument(
            "archives",
            nargs="+",
            metavar="ARCHIVE",
            help="a trained model: the folder that `allennlp train -s` wrote, or the model.tar.gz in it",
        )
        subparser.add_argument(
            "--port", type=_port, default=8000, metavar="N", help="the port, 0 for any that is free"
        )
        subparser.add_argument(
            "--host",
            default="127.0.0.1",
            metavar="ADDRESS",
            help="the address to listen at, by default this machine alone; with 0.0.0.0 everyone in the "
            "network can use the models: there is no password",
        )
        subparser.add_argument(
            "--max-characters", type=_positive, default=MAX_CHARACTERS, metavar="N",
            help="the characters that a sentence may have",
        )  # fmt: skip
        subparser.add_argument(
            "--max-tokens", type=_positive, default=MAX_TOKENS, metavar="N",
            help="the words and punctuation marks that a sentence may have",
        )  # fmt: skip
        subparser.add_argument(
            "--cuda-device", type=int, default=-1, metavar="ID", help="the GPU to use, -1 for the CPU"
        )
        subparser.set_defaults(func=serve_attention_from_arguments)
        return subparser


def serve_attention_from_arguments(arguments: argparse.Namespace) -> None:
    # As Ctrl-C: AllenNLP's own handler raises an error that whatever is under way may take for one of its own.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _serve(arguments)
    except KeyboardInterrupt:  # of which the server itself does not tell
        pass
    finally:
        signal.signal(signal.SIGTERM, before)
    print("Stopped.", flush=True)


def _serve(arguments: argparse.Namespace) -> None:
    # Hundreds of lines on how the models were configured would hide the address.
    logging.getLogger("allennlp").setLevel(logging.WARNING)
    # What can be wrong is told before the models are loaded.
    with open_socket(arguments.host, arguments.port) as opened:
        for path in arguments.archives:
            task = task_of(path, read_config(path))
            if not issubclass(task.model, RegularizedDecomposableAttention):
                raise ConfigurationError(
                    f'"{path}" is a model for the task "{task.predictor_name}", but the page takes a premise and a '
                    "hypothesis: a regularized_decomposable_attention is wanted. `allennlp show-attention` shows "
                    "models of any task."
                )
        models = LoadedModels(
            load_predictors(arguments.archives, arguments.cuda_device), arguments.max_characters, arguments.max_tokens
        )
        # The first prediction compiles the operators, for seconds: before anyone waits for it.
        models.predict(AttentionRequest(premise="a", hypothesis="b"))
        host_names = {"localhost", "127.0.0.1", "::1", arguments.host} if is_loopback(arguments.host) else None
        serve(create_application(models, host_names), opened)


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"a port is a number from 0 to 65535, not {port}")
    return port


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"a number of 1 or above is wanted, not {number}")
    return number
