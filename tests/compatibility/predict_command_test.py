"""The command `predict`, with a predictor of AllenNLP's own and one of this package."""

import gzip
import io
import json
import sys
from pathlib import Path

import pytest
from allennlp.common.checks import ConfigurationError

from tests.compatibility.conftest import INCLUDE

# Each is told by its length.
SENTENCES = [{"sentence": "so " * number + "good"} for number in range(5)]


def predict(allennlp, archive, folder: Path, *arguments: object) -> tuple[list[dict], str | None]:
    """The predictions in the output file, and the error the command ended with, if it did."""
    message = None
    try:
        allennlp("predict", archive, *arguments, "--output-file", folder / "out.jsonl", "--silent", *INCLUDE)
    except ConfigurationError as error:
        message = str(error)
    return [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()], message


def numbers(predictions: list[dict]) -> list[int]:
    """Which of the sentences were predicted; the classifier shows padding too."""
    return [sum(token != "@@PADDING@@" for token in one["tokens"]) - 1 for one in predictions]


def write(path: Path, lines: list[object]) -> Path:
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return path


@pytest.mark.parametrize("batch_size", [1, 2, 32])
@pytest.mark.parametrize(
    "bad_line, message",
    [
        ('{"sentence": so', "line 5: JSONDecodeError: Expecting value"),  # cannot be read
        ({"text": "so good"}, "line 5: KeyError: 'sentence'"),  # cannot be predicted
    ],
)
def test_a_line_is_named_and_those_before_it_are_kept(allennlp, classifier, tmp_path, bad_line, message, batch_size):
    path = write(tmp_path / "in.jsonl", [*SENTENCES[:2], "", SENTENCES[2], bad_line, *SENTENCES[3:]])
    predictions, error = predict(allennlp, classifier, tmp_path, path, "--batch-size", batch_size)
    assert error is not None and error.startswith(f"{path}, {message}")
    assert json.dumps(bad_line) in error or bad_line in error
    assert numbers(predictions) == [0, 1, 2]


@pytest.mark.parametrize(
    "given, message",
    [
        ('{"frozen": tru', 'must be a JSON object, .*but is {"frozen": tru$'),
        ("[1]", r"must be a JSON object, .*but is \[1\]$"),
        ('{"frosen": true}', """{"frosen": true}: .*unexpected keyword argument 'frosen'"""),
    ],
)
def test_wrong_arguments_of_the_predictor_are_told(allennlp, classifier, tmp_path, given, message):
    path = write(tmp_path / "in.jsonl", SENTENCES)
    with pytest.raises(ConfigurationError, match=f"^--predictor-args {message}"):
        allennlp("predict", classifier, path, "--predictor-args", given, "--silent", *INCLUDE)


def test_a_line_that_is_not_utf_8_is_told_and_those_before_it_are_kept(allennlp, classifier, tmp_path):
    path = tmp_path / "in.jsonl"
    # Decoding goes by larger pieces than lines.
    lines = [json.dumps(sentence) for sentence in SENTENCES * 500]
    path.write_bytes("\n".join(lines).encode() + b'\n{"sentence": "\xff"}\n')
    predictions, error = predict(allennlp, classifier, tmp_path, path)
    assert error is not None and f"{path}, behind line {len(predictions)}: UnicodeDecodeError" in error
    assert len(predictions) > 2000


def test_an_instance_is_named_and_those_before_it_are_kept(allennlp, archive, tmp_path):
    pairs = [{"premise": "A dog runs.", "hypothesis": "A dog."}] * 3
    path = write(tmp_path / "in.jsonl", [*pairs, {"premise": "", "hypothesis": "A dog."}, *pairs])
    predictions, error = predict(allennlp, archive, tmp_path, path, "--use-dataset-reader", "--batch-size", 5)
    assert error == f"{path}, line 4: \"premise\" is '', and should be a sentence."
    assert len(predictions) == 3


@pytest.mark.parametrize("separate", [True, False])
def test_several_files_are_predicted_one_after_the_other(allennlp, classifier, tmp_path, separate):
    first = write(tmp_path / "first, in a name.jsonl", SENTENCES[:2])
    second, third = (write(tmp_path / f"{name}.jsonl", SENTENCES[2:4]) for name in ("second", "third"))
    more = (second, third) if separate else (f"{second},{third}",)
    predictions, error = predict(allennlp, classifier, tmp_path, first, *more, "--batch-size", 3)
    assert error is None
    assert numbers(predictions) == [0, 1, 2, 3, 2, 3]
    write(third, [SENTENCES[4], "{}"])
    predictions, error = predict(allennlp, classifier, tmp_path, first, *more)
    assert error is not None and error.startswith(f"{third}, line 2: KeyError")
    assert numbers(predictions) == [0, 1, 2, 3, 4]


def test_several_files_are_read_by_the_dataset_reader(allennlp, archive, tmp_path):
    arguments = ("sample:validation[:3]", "sample:train[:2]", "--use-dataset-reader", "--batch-size", 4)
    predictions, error = predict(allennlp, archive, tmp_path, *arguments)
    assert error is None and len(predictions) == 5
    alone, _ = predict(allennlp, archive, tmp_path, "sample:train[:2]", "--use-dataset-reader")
    assert [one["premise_tokens"] for one in predictions[3:]] == [one["premise_tokens"] for one in alone]


@pytest.mark.parametrize("given", ["file", "compressed", "standard input"])
def test_a_byte_order_mark_is_passed_over(allennlp, classifier, tmp_path, monkeypatch, given):
    text = "\ufeff" + "".join(json.dumps(sentence) + "\n" for sentence in SENTENCES)
    path: object = tmp_path / ("in.jsonl.gz" if given == "compressed" else "in.jsonl")
    if given == "standard input":
        monkeypatch.setattr(sys, "stdin", io.StringIO(text))
        path = "-"
    else:
        Path(path).write_bytes(gzip.compress(text.encode()) if given == "compressed" else text.encode())
    predictions, error = predict(allennlp, classifier, tmp_path, path)
    assert error is None and len(predictions) == 5


def test_what_is_printed_stays_as_it_was(allennlp, classifier, tmp_path, capsys):
    path = write(tmp_path / "in.jsonl", SENTENCES[:2])
    allennlp("predict", classifier, path)
    lines = [line for line in capsys.readouterr().out.splitlines() if line]
    assert [line.split(": ")[0] for line in lines] == ["input 0", "prediction", "input 1", "prediction"]
    assert json.loads(lines[0].removeprefix("input 0:")) == SENTENCES[0]
