import os
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from os import PathLike
from typing import Any, Optional, Union

import numpy as np
import torch
from allennlp.common.checks import ConfigurationError
from allennlp.data import DatasetReader, Field, Instance, TokenIndexer, Tokenizer
from allennlp.data.fields import LabelField, MetadataField, TensorField, TextField
from allennlp.data.token_indexers import SingleIdTokenIndexer
from datasets.fingerprint import Hasher

from regattn_allennlp.data.dataset_readers.source_dataset_reader import SourceDatasetReader
from regattn_allennlp.data.example import Example
from regattn_allennlp.data.fields import RegionsField
from regattn_allennlp.data.region_features import Regions, find_regions, image_ids
from regattn_allennlp.data.sample_scenes import sample_scene, sample_scene_ids
from regattn_allennlp.data.source_instance import SourceInstance
from regattn_allennlp.data.tokenizers import SpacyLanguageTokenizer
from regattn_allennlp.data.vqa_answers import answer_scores, normalize_answer
from regattn_allennlp.data.vqa_source import VqaSource, open_vqa_source


@DatasetReader.register("vqa")
class VqaDatasetReader(SourceDatasetReader):
    """
    Reads questions about images, in the format of VQA v2 (Goyal et al. 2017, arXiv 1612.00837), with features of the
    images' regions. What it reads from, the `file_path`, may be:

    - a file of questions, as VQA has it: `{"questions": [{"question_id": 1, "image_id": 2, "question": "..."}]}`; a
      path, a URL, or `"archive.zip!file.json"`. The answers are in the file of `annotations`:
      `{"annotations": [{"question_id": 1, "answers": [{"answer": "..."}, ...], "multiple_choice_answer": "..."}]}`;
    - the sample of this package, generated scenes: `"sample:train"` and `"sample:validation"`.

    A slice at the end selects some of the questions: `"sample:train[:1000]"`.

    The instances have the fields

    - `question` (`TextField`);
    - `regions` (`RegionsField`), of shape (num_regions, dim), and `region_mask` (`TensorField`), which tells them from
      padding. Features in files are read when a batch is made: memory does not grow with the data;
    - `answer` (`LabelField` in the namespace "answers"): the most frequent answer, VQA's "multiple_choice_answer",
      normalized. Make answers that are too rare to be learned unknown ones by the vocabulary's
      `"min_count": {"answers": 8}`;
    - `metadata` (`MetadataField`) with the keys `question_id`, `image_id`, `question`, `question_tokens`,
      `num_regions`; `boxes` (a list of [left, top, right, bottom] as fractions of the picture), `region_names` and
      `image` (the picture's path), each empty if not known; and if there are answers, `answer_scores`: what each that
      somebody gave is worth, by VQA's definition.

    Region features are in files of HDF5 (.h5, .hdf5) or .npz. Both have, for each image,

    - `"<image id>/features"`: shape (num_regions, dim);
    - `"<image id>/boxes"`, optional: shape (num_regions, 4), left, top, right and bottom of each region as fractions
      of the picture; or in pixels, if there is `"<image id>/image_size"`: (width, height);
    - `"<image id>/names"`, optional: a text for each region.

    Registered as a `DatasetReader` with name "vqa".

    # Parameters

    region_features : `Union[str, List[str]]`, optional (default = `None`)
        The file of region features, or several: an image's are those of the first that has them. Not for the sample,
        which has its own.
    annotations : `Union[str, List[str]]`, optional (default = `None`)
        The file of annotations, or several (of training and validation). By default the file beside the questions
        that VQA's names lead to: "questions" in the name is "annotations" there, without "OpenEnded_".
    has_answers : `bool`, optional (default = `True`)
        If false, no annotations are looked for: VQA's test split has none.
    tokenizer : `Tokenizer`, optional (default = `SpacyLanguageTokenizer()`)
    token_indexers : `Dict[str, TokenIndexer]`, optional (default = `{"tokens": SingleIdTokenIndexer()}`)
    image_folder : `str`, optional (default = `None`)
        Where the pictures are, to show them. A picture's name, without its ending, is or ends in the image's id, with
        or without leading zeros: "COCO_train2014_000000458752.jpg".

    # Raises

    `ConfigurationError`
        While reading: if a file cannot be found or is malformed, a question has no annotation, an image has no
        features, or features of another dimension than those before. The message names the file, the question and
        the image.
    """

    def __init__(
        self,
        region_features: Optional[Union[str, list[str]]] = None,
        annotations: Optional[Union[str, list[str]]] = None,
        has_answers: bool = True,
        tokenizer: Optional[Tokenizer] = None,
        token_indexers: Optional[dict[str, TokenIndexer]] = None,
        image_folder: Optional[str] = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(manual_distributed_sharding=True, manual_multiprocess_sharding=True, **kwargs)
        self._region_features = _as_list(region_features)
        self._annotations = _as_list(annotations)
        self._has_answers = has_answers
        self._tokenizer = tokenizer or SpacyLanguageTokenizer()
        self._token_indexers = token_indexers or {"tokens": SingleIdTokenIndexer()}
        self._image_folder = image_folder
        self._first_image: Optional[tuple[str, int]] = None

    def _open(self, file_path: str | PathLike) -> VqaSource:
        return open_vqa_source(
            str(file_path), self._annotations, self._has_answers, needs_answers=not self._reads_to_predict
        )

    def fingerprint(self, file_path: str | PathLike) -> Optional[str]:
        """
        As of all readers; region features that were written anew make other instances, too.
        """
        fingerprint = super().fingerprint(file_path)
        written = [(os.path.abspath(path), os.stat(path).st_mtime_ns) for path in self._region_features]
        return None if fingerprint is None else Hasher.hash((fingerprint, written))

    def _read(self, file_path: str | PathLike) -> Iterable[Instance]:
        source = self._open(file_path)
        for row in source.questions(self._own_share(source.rows)):
            if self._reads_to_predict:
                row.update(answers=None)  # which only accuracy is made of
            place = f"question {row['question_id']} (image {row['image_id']})"
            try:
                yield SourceInstance(self.text_to_instance(**row), place)
            except ConfigurationError as error:
                raise ConfigurationError(f"{source.name}, {place}: {error}") from error

    def read_examples(self, file_path: str | PathLike) -> Iterator[Example]:
        """
        Yields all questions as they stand in the source, with the most frequent answer, normalized, where there is
        one. A file of questions whose annotations are not found is read without.
        """
        try:
            source = self._open(file_path)
        except ConfigurationError:
            if self._annotations or not self._has_answers:
                raise
            source = open_vqa_source(str(file_path), has_answers=False)
        for row in source.questions(source.rows):
            gold = None if row["answer"] is None else normalize_answer(row["answer"])
            yield Example({"question": row["question"], "image_id": row["image_id"]}, gold)

    def regions_of(self, image_id: Union[str, int]) -> Regions:
        """
        The regions of an image, from the files of region features or, if there are none, of the sample's scene.

        # Raises

        `ConfigurationError`
            If there is no such image.
        """
        image_id = str(image_id)
        if self._region_features:
            regions = find_regions(self._region_features, image_id)
        else:
            try:
                scene = sample_scene(image_id)
            except ValueError as error:
                raise ConfigurationError(
                    f"{error}. Features of other images are named by region_features in the dataset reader's "
                    "configuration."
                ) from error
            boxes = np.array([one.box for one in scene.objects])
            regions = Regions(scene.features, boxes, [one.name for one in scene.objects])
        self._check_dim(image_id, regions.features.shape[1])
        return regions

    def image_ids(self) -> Iterator[str]:
        """The images that `regions_of` knows: of the files of region features, or of the sample."""
        return image_ids(self._region_features) if self._region_features else sample_scene_ids()

    def picture_of(self, image_id: Union[str, int]) -> Optional[str]:
        """The path of the image's picture, if there is one in the `image_folder`."""
        return self._pictures.get(str(image_id))

    def _check_dim(self, image_id: str, dim: int) -> None:
        if self._first_image is None:
            self._first_image = image_id, dim
        first_image, first_dim = self._first_image
        if dim != first_dim:
            raise ConfigurationError(
                f"The features of image {image_id} have the dimension {dim}, those of image {first_image} "
                f"{first_dim}: all must have the same ({', '.join(self._region_features)})."
            )

    def text_to_instance(  # type: ignore[override]
        self,
        question: str,
        image_id: Union[str, int, None] = None,
        regions: Optional[Regions] = None,
        answers: Optional[Sequence[str]] = None,
        answer: Optional[str] = None,
        question_id: Optional[int] = None,
    ) -> Instance:
        """
        # Parameters

        image_id : `Union[str, int]`, optional
            What image to look up, unless its `regions` are given.
        regions : `Regions`, optional
        answers : `Sequence[str]`, optional
            What each of the people who were asked answered.
        answer : `str`, optional
            The answer to be learned.
        """
        if regions is None:
            if image_id is None:
                raise ConfigurationError("a question needs regions, or the image_id to look them up by")
            regions = self.regions_of(image_id)
        tokens = self._tokenizer.tokenize(question)
        metadata: dict[str, Any] = {
            "image_id": "" if image_id is None else str(image_id),
            "question": question,
            "question_tokens": [token.text for token in tokens],
            "num_regions": regions.features.shape[0],
            # Empty where not known: AllenNLP's predictors would write None as the text "None".
            "boxes": [] if regions.boxes is None else regions.boxes.tolist(),
            "region_names": regions.names or [],
            "image": "" if image_id is None else self.picture_of(image_id) or "",
        }
        fields: dict[str, Field] = {
            "question": TextField(tokens),
            "regions": RegionsField(regions.features),
            "region_mask": TensorField(torch.ones(regions.features.shape[0], dtype=torch.bool), padding_value=False),
            "metadata": MetadataField(metadata),
        }
        if question_id is not None:
            metadata["question_id"] = question_id
        if answers is not None:
            metadata["answer_scores"] = answer_scores([normalize_answer(one) for one in answers])
        if answer is not None:
            fields["answer"] = LabelField(normalize_answer(answer), label_namespace="answers")
        return Instance(fields)

    @cached_property
    def _pictures(self) -> dict[str, str]:
        """The path of each image's picture."""
        if self._image_folder is None:
            return {}
        if not os.path.isdir(self._image_folder):
            raise ConfigurationError(f'image_folder: there is no folder "{self._image_folder}".')
        pictures = {}
        for entry in os.scandir(self._image_folder):
            name = os.path.splitext(entry.name)[0]
            number = re.search(r"\d+$", name)
            pictures[str(int(number.group())) if number else name] = entry.path
            pictures[name] = entry.path
        return pictures

    def apply_token_indexers(self, instance: Instance) -> None:
        # Here, not in `text_to_instance`: between processes instances travel without their indexers.
        instance["question"].token_indexers = self._token_indexers


def _as_list(names: Optional[Union[str, list[str]]]) -> list[str]:
    return [names] if isinstance(names, str) else list(names or [])
