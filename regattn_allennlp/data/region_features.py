"""
Features of image regions in files, read one image at a time.

Both formats have the same layout: under each image's id

* "<image id>/features": shape (num_regions, dim), any float type;
* "<image id>/boxes", optional: shape (num_regions, 4), the left, top, right and bottom of each region from the
  picture's top left corner, as fractions of the picture's width and height; or in pixels, if there is
* "<image id>/image_size": (width, height) in pixels;
* "<image id>/names", optional: shape (num_regions,), a text for each region.

In HDF5 (.h5, .hdf5) these are datasets in a group for each image; in .npz, which `numpy.savez` writes, the names of
the arrays. The ids are written as VQA's JSON has them, without leading zeros: "458752/features".
"""

import os
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple, Optional, Union

import h5py
import numpy as np
from allennlp.common.checks import ConfigurationError
from numpy.lib import format as numpy_format

HDF5_SUFFIXES = (".h5", ".hdf5")
# How many files one process keeps open.
OPEN_FILES = 8
# What rounding may put beside the picture.
BOX_TOLERANCE = 0.02


class StoredFeatures(NamedTuple):
    """Features that are still in their file; of them only the shape (num_regions, dim) is known."""

    path: str
    image_id: str
    shape: tuple[int, ...]

    def read(self) -> np.ndarray:
        """float32; a ConfigurationError if there is a number that is not finite."""
        features = _open(self.path).read(f"{self.image_id}/features").astype(np.float32)
        if not np.isfinite(features).all():
            raise ConfigurationError(
                f"{self.path}, image {self.image_id}: there is a feature that is no finite number, in float32."
            )
        return features


class Regions(NamedTuple):
    """
    The regions of one image.

    # Parameters

    features : `Union[np.ndarray, StoredFeatures]`
        Shape (num_regions, dim), float32.
    boxes : `np.ndarray`, optional
        Shape (num_regions, 4): left, top, right, bottom as fractions of the picture, from its top left corner.
    names : `List[str]`, optional
    """

    features: Union[np.ndarray, StoredFeatures]
    boxes: Optional[np.ndarray] = None
    names: Optional[list[str]] = None


class _Hdf5File:
    def __init__(self, path: str) -> None:
        self._file = h5py.File(path, "r")

    def __contains__(self, key: str) -> bool:
        return key in self._file

    def image_ids(self) -> Iterator[str]:
        return iter(self._file)

    def shape(self, key: str) -> tuple[int, ...]:
        return self._file[key].shape

    def read(self, key: str) -> np.ndarray:
        dataset = self._file[key]
        return (dataset.asstr() if h5py.check_string_dtype(dataset.dtype) else dataset)[()]


class _NpzFile:
    def __init__(self, path: str) -> None:
        self._file = np.load(path, allow_pickle=False)
        if not isinstance(self._file, np.lib.npyio.NpzFile):
            raise ValueError("it holds a single array without a name")

    def __contains__(self, key: str) -> bool:
        return key in self._file

    def image_ids(self) -> Iterator[str]:
        return (key.removesuffix("/features") for key in self._file if key.endswith("/features"))

    def shape(self, key: str) -> tuple[int, ...]:
        with self._file.zip.open(f"{key}.npy") as member:
            version = numpy_format.read_magic(member)
            read = numpy_format.read_array_header_1_0 if version == (1, 0) else numpy_format.read_array_header_2_0
            return read(member)[0]

    def read(self, key: str) -> np.ndarray:
        return self._file[key]


def _open(path: str) -> Union[_Hdf5File, _NpzFile]:
    try:
        changed = os.stat(path).st_mtime_ns
        # A process that was forked must not read by its parent's handle.
        return _opened(path, changed, os.getpid())
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f'The region features "{path}" could not be read: {error}. Wanted is an HDF5 file '
            f"({', '.join(HDF5_SUFFIXES)}) or an .npz file, laid out as the dataset reader vqa says."
        ) from error


@lru_cache(maxsize=OPEN_FILES)
def _opened(path: str, changed: int, process: int) -> Union[_Hdf5File, _NpzFile]:
    if path.endswith(HDF5_SUFFIXES):
        return _Hdf5File(path)
    if path.endswith(".npz"):
        return _NpzFile(path)
    raise ValueError("its name has another ending")


def image_ids(paths: Sequence[str]) -> Iterator[str]:
    """The ids of the images that the files have, in their order."""
    for path in paths:
        yield from _open(path).image_ids()


def find_regions(paths: Sequence[str], image_id: str) -> Regions:
    """
    The regions of an image in the first of the files that has it, the features not yet read.

    # Raises

    `ConfigurationError`
        If no file has the image, or what one has of it is not as the layout wants it.
    """
    path = next((path for path in paths if f"{image_id}/features" in _open(path)), None)
    if path is None:
        raise ConfigurationError(
            f'There are no features of image {image_id}: no "{image_id}/features" in {" or ".join(paths)}.'
        )
    file, location = _open(path), f"{path}, image {image_id}"
    shape = file.shape(f"{image_id}/features")
    if len(shape) != 2 or 0 in shape:
        raise ConfigurationError(f"{location}: features have shape {shape}, not (num_regions, dim).")
    size = file.read(f"{image_id}/image_size") if f"{image_id}/image_size" in file else None
    boxes = file.read(f"{image_id}/boxes") if f"{image_id}/boxes" in file else None
    names = file.read(f"{image_id}/names").tolist() if f"{image_id}/names" in file else None
    if boxes is not None:
        boxes = checked_boxes(boxes, shape[0], location, size)
    if names is not None and (len(names) != shape[0] or not all(isinstance(name, str) for name in names)):
        raise ConfigurationError(f"{location}: wanted is a name for each of {shape[0]} regions, not {names}.")
    return Regions(StoredFeatures(path, image_id, shape), boxes, names)


def checked_boxes(
    boxes: np.ndarray, num_regions: int, location: str, image_size: Optional[np.ndarray] = None
) -> np.ndarray:
    """
    The boxes as fractions of the picture; a ConfigurationError, which starts with the location, if they are none.
    """
    if boxes.shape != (num_regions, 4):
        raise ConfigurationError(f"{location}: boxes have shape {boxes.shape}, not ({num_regions}, 4).")
    fractions = boxes.astype(np.float64)
    if image_size is not None:
        if image_size.shape != (2,) or not (image_size > 0).all():
            raise ConfigurationError(f"{location}: image_size is {image_size.tolist()}, not [width, height].")
        fractions = fractions / np.tile(image_size, 2)
    inside = (fractions >= -BOX_TOLERANCE) & (fractions <= 1 + BOX_TOLERANCE)
    if not inside.all() or not (fractions[:, :2] <= fractions[:, 2:]).all():
        unit = "fractions of the picture; for pixels, add image_size" if image_size is None else "pixels"
        raise ConfigurationError(
            f"{location}: a box must be [left, top, right, bottom] within the picture, in {unit}; the boxes are "
            f"{boxes.tolist()[:3]}{' ...' if num_regions > 3 else ''}."
        )
    return fractions.clip(0, 1)
