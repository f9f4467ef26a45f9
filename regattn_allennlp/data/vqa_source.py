"""
Opens what questions about images are read from: VQA v2's JSON files, and the embedded sample. Either way the questions
end in one memory-mapped Arrow table, so memory does not grow with the data once it is written.
"""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Optional

import datasets
from allennlp.common.checks import ConfigurationError
from allennlp.common.file_utils import cached_path
from allennlp.common.util import lazy_groups_of
from datasets.fingerprint import Hasher

from regattn_allennlp.data.sample_scenes import sample_questions
from regattn_allennlp.data.source_rows import RowSource, generate_table, select_rows, split_slice
from regattn_allennlp.version import VERSION

# Rows are fetched from the table this many at a time.
BATCH_SIZE = 1000

FEATURES = datasets.Features(
    {
        "question_id": datasets.Value("int64"),
        "image_id": datasets.Value("string"),
        "question": datasets.Value("string"),
        # What each person answered, and the one that is taken for right: none where there are no annotations.
        "answers": datasets.List(datasets.Value("string")),
        "answer": datasets.Value("string"),
    }
)


class VqaSource(RowSource):
    """Questions about images, one a row; the table has the columns of `FEATURES`."""

    def questions(self, rows: Iterable[int]) -> Iterator[dict[str, Any]]:
        for group in lazy_groups_of(rows, BATCH_SIZE):
            yield from self.table.select(group)


def annotations_name(questions_name: str) -> Optional[str]:
    """
    What VQA calls the annotations of a file of questions: "v2_mscoco_train2014_annotations.json" for
    "v2_OpenEnded_mscoco_train2014_questions.json"; `None` if "questions" is not in the file's name.
    """
    folder, name = os.path.split(questions_name)
    before, found, after = name.rpartition("questions")
    return os.path.join(folder, f"{before.replace('OpenEnded_', '')}annotations{after}") if found else None


def open_vqa_source(
    file_path: str, annotations: Sequence[str] = (), has_answers: bool = True, needs_answers: bool = True
) -> VqaSource:
    """
    Opens a source; `VqaDatasetReader` says what its arguments may be. Where answers are not needed, there are those
    of the annotations that are found.

    # Raises

    `ConfigurationError`
        If a file cannot be found or is malformed, a question has no annotation, or the slice is none.
    """
    name, _ = split_slice(file_path)
    if name.startswith("sample:"):
        table = _load_sample(name)
    else:
        table = _load_files(
            name, _annotations_of(name, annotations, needs_answers) if has_answers else [], needs_answers
        )
    return VqaSource(name, table, select_rows(file_path, table, "questions"))


def _load_sample(name: str) -> datasets.Dataset:
    try:
        questions = sample_questions(name.removeprefix("sample:"))
    except ValueError as error:
        raise ConfigurationError(f'"{name}": {error}') from error
    return datasets.Dataset.from_list(
        [
            {"question_id": number, **question._asdict(), "answers": [question.answer]}
            for number, question in enumerate(questions)
        ],
        features=FEATURES,
    )


def _annotations_of(name: str, given: Sequence[str], are_needed: bool) -> list[str]:
    if given:
        return [one for one in given if are_needed or _is_found(one)]
    expected = annotations_name(name)
    _local(name)  # where the questions themselves are missing, that is told
    if not are_needed:
        return [expected] if expected is not None and _is_found(expected) else []
    if expected is None or not ("://" in expected or "!" in expected or os.path.isfile(expected)):
        reason = '"questions" is not in its name' if expected is None else f'there is no "{expected}"'
        raise ConfigurationError(
            f'The annotations of "{name}" were not found: {reason}. Name their file by annotations in the dataset '
            'reader\'s configuration; or write "has_answers": false there to read the questions alone.'
        )
    return [expected]


def _is_found(annotations: str) -> bool:
    try:
        _local(annotations)
    except ConfigurationError:
        return False
    return True


def _load_files(name: str, annotations: list[str], needs_answers: bool) -> datasets.Dataset:
    # A tuple: the datasets library would share a list out to several writers.
    files = tuple((file, _local(file)) for file in (name, *annotations))
    states = [(os.path.abspath(path), os.stat(path).st_size, os.stat(path).st_mtime_ns) for _, path in files]
    fingerprint = Hasher.hash((VERSION, "vqa", states, needs_answers))
    return generate_table(_rows, {"files": files, "needs_answers": needs_answers}, FEATURES, fingerprint)


def _local(name: str) -> str:
    try:
        return str(cached_path(name, extract_archive=True))
    except Exception as error:  # each kind of URL has a client, and each client its own errors
        raise ConfigurationError(
            f'"{name}" could not be opened: {error}. Wanted is a file as VQA\'s questions and annotations are, or '
            '"sample:train".'
        ) from error


def _rows(files: tuple[tuple[str, str], ...], needs_answers: bool) -> Iterator[dict[str, Any]]:
    (questions_name, questions_path), *annotation_files = files
    answers: dict[int, tuple[list[str], str]] = {}
    for name, path in annotation_files:
        for annotation in _entries(name, path, "annotations", {"question_id": int}):
            answers[annotation["question_id"]] = _answers(f"{name}, question {annotation['question_id']}", annotation)
    wanted = {"question_id": int, "image_id": (int, str), "question": str}
    is_empty = True
    for entry in _entries(questions_name, questions_path, "questions", wanted):
        is_empty = False
        location = f"{questions_name}, question {entry['question_id']} (image {entry['image_id']})"
        if not entry["question"].strip():
            raise ConfigurationError(f'{location}: "question" is {entry["question"]!r}, and should be a sentence.')
        if needs_answers and annotation_files and entry["question_id"] not in answers:
            names = " or ".join(name for name, _ in annotation_files)
            raise ConfigurationError(f"{location}: there is no annotation with its question_id in {names}.")
        given, answer = answers.get(entry["question_id"], (None, None))
        row = {name: entry[name] for name in wanted}
        yield {**row, "image_id": str(entry["image_id"]), "answers": given, "answer": answer}
    if is_empty:
        raise ConfigurationError(f"{questions_name}: the file holds no questions.")


def _entries(name: str, path: str, key: str, wanted: dict[str, Any]) -> Iterator[dict[str, Any]]:
    try:
        with open(path, encoding="utf-8-sig") as file:
            content = json.load(file)
    except ValueError as error:
        raise ConfigurationError(f"{name}: not JSON in UTF-8 ({error}).") from error
    if not isinstance(content, dict) or not isinstance(content.get(key), list):
        found = f"the keys are {sorted(content)}" if isinstance(content, dict) else f"it is a {type(content).__name__}"
        raise ConfigurationError(f'{name}: wanted is a JSON object with a list under "{key}", but {found}.')
    for number, entry in enumerate(content[key]):
        for field, kind in wanted.items():
            if not isinstance(entry, dict) or not isinstance(entry.get(field), kind):
                raise ConfigurationError(
                    f'{name}, "{key}", entry {number} (counted from 0): "{field}" is missing or of the wrong type: '
                    f"{str(entry)[:200]}"
                )
        yield entry


def _answers(location: str, annotation: dict[str, Any]) -> tuple[list[str], str]:
    """All answers as people gave them, and the one that is right: by name, or the first of the most frequent."""
    entries = annotation.get("answers") or []
    right = annotation.get("multiple_choice_answer")
    given = [entry.get("answer") if isinstance(entry, dict) else None for entry in entries] or [right]
    texts = [answer for answer in given if isinstance(answer, str)]
    if right is None and texts:
        right = max(texts, key=texts.count)
    if len(texts) < len(given) or not isinstance(right, str):
        raise ConfigurationError(
            f'{location}: wanted is "answers": [{{"answer": ...}}, ...] or "multiple_choice_answer", or both; the '
            f"annotation is {str(annotation)[:200]}"
        )
    return texts, right
