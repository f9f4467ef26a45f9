import argparse
import logging
import re
import signal
import socket
import time
import webbrowser
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from threading import Thread

from allennlp.commands.subcommand import Subcommand
from allennlp.common.checks import ConfigurationError

from regattn_allennlp.commands.help_formatter import HelpFormatter
from regattn_allennlp.data.example import Example
from regattn_allennlp.predictors.archives import common_task, load_predictors, read_config, read_examples
from regattn_allennlp.server import LoadedModels, create_application, is_loopback, open_socket, serve
from regattn_allennlp.server.loaded_models import MAX_CHARACTERS, MAX_TOKENS
from regattn_allennlp.server.tasks import TASKS, Task

SECONDS_BETWEEN_LOOKS = 0.1
# Of those that nobody asked for.
NUM_EXAMPLES = 8

DESCRIPTION = """\
Serves a web page on this machine: type a text, and see what models attend to, side by side, and what they conclude.
Sliders change the regularization of their attention (gamma, lam, alpha) without training anew; words can be taken out.

  allennlp serve-attention output/softmax output/fusedmax --open

serves two models at http://127.0.0.1:8000/ and opens it in a browser; Ctrl-C stops it. The models are of one task:

  textual entailment           a premise and a hypothesis
  sequence to sequence         a source, and a target if wanted
  questions about images       a question and an image, and an answer if wanted

Items of one's own, with their gold answers, to find those on which models
disagree or are wrong, the least confident, the sparsest, a word:

  allennlp serve-attention output/softmax --input validation.jsonl

The same as JSON:

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
            "--input",
            metavar="ITEMS",
            help="items to choose from on the page, with gold answers or without: whatever the first archive's "
            'dataset reader reads, such as a file, "sample:validation", or a slice, "items.jsonl[:20]"',
        )
        subparser.add_argument("--open", action="store_true", help="open the page in a browser once it is served")
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
            help="the characters that a text may have",
        )  # fmt: skip
        subparser.add_argument(
            "--max-tokens", type=_positive, default=MAX_TOKENS, metavar="N",
            help="the words and punctuation marks that a text may have",
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
        task = common_task({path: read_config(path) for path in arguments.archives})
        if task.predictor_name not in TASKS:
            raise ConfigurationError(
                f'"{arguments.archives[0]}" is a model for the task "{task.predictor_name}"; the page takes those for '
                f"{', '.join(TASKS)}. `allennlp show-attention` shows models of any task."
            )
        examples = _examples(arguments, TASKS[task.predictor_name])
        models = LoadedModels(
            load_predictors(arguments.archives, arguments.cuda_device),
            arguments.max_characters,
            arguments.max_tokens,
            examples,
        )
        models.warm_up()
        host_names = {"localhost", "127.0.0.1", "::1", arguments.host} if is_loopback(arguments.host) else None
        if arguments.open:
            Thread(target=_open_in_browser, args=opened.getsockname()[:2], daemon=True).start()
        serve(create_application(models, host_names), opened)


def _examples(arguments: argparse.Namespace, task: type[Task]) -> Sequence[Example]:
    """
    The user's own, or the task's; else some of the data that the first archive was validated by, if they are still
    there.
    """
    archive = arguments.archives[0]
    if arguments.input is not None:
        return list(read_examples(archive, arguments.input))
    if task.examples:
        return task.examples
    source = str(read_config(archive).get("validation_data_path"))
    # Nothing is downloaded for examples that nobody asked for.
    if not source.startswith("sample:") and not Path(re.split(r"[!\[]", source)[0]).is_file():
        return ()
    try:
        return list(islice(read_examples(archive, source), NUM_EXAMPLES))
    except ConfigurationError:
        return ()


def _open_in_browser(host: str, port: int) -> None:
    """Once the server answers: until then a browser would say that there is none."""
    # What listens at all of the machine's addresses has no address of its own to open.
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    while True:
        with suppress(OSError), socket.create_connection((host, port)):
            break
        time.sleep(SECONDS_BETWEEN_LOOKS)
    webbrowser.open(f"http://{f'[{host}]' if ':' in host else host}:{port}/")


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
