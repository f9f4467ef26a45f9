"""Which files a trial depends on, and what tells that one of them is another than before."""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

from regattn_allennlp.comparison.trial_files import write_atomically
from regattn_allennlp.data.gold_links import links_file
from regattn_allennlp.data.source_rows import split_slice
from regattn_allennlp.predictors.archives import ARCHIVE_NAME
from regattn_allennlp.version import VERSION

# Files up to this size, in bytes, are known by their content, others by size and time: some seconds of reading.
LARGEST_DIGESTED = 2**30
# A folder with more files than this is known by its time alone: it is hardly data.
MOST_FILES = 10_000

Identity = dict[str, Any]


class Identities:
    """
    Says what a path stands for at present, so that what has changed is seen:

        {"path": "train.jsonl[:1000]", "sha256": "..."}

    A copied or touched file with the same content is the same. Digests are kept in the file `memory`, by size and
    time, so that each content is read once. All is looked at once: ask a new object after a change.

    # Parameters

    folder : `Path`
        Of the comparison; data never contain it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._memory = folder / ".digests.json"
        self._digests: dict[str, list[Any]] = (
            json.loads(self._memory.read_text(encoding="utf-8")) if self._memory.exists() else {}
        )
        self._known: dict[str, Identity] = {}

    def save(self) -> None:
        write_atomically(self._memory, json.dumps(self._digests))

    def of_data(self, path: str) -> Identity:
        """Of anything that a config names; what is no file or folder here is known by its name."""
        if path not in self._known:
            file, part = _file_of(path)
            content = {} if file is None else self._of_folder(file) if file.is_dir() else self._of_file(file)
            self._known[path] = {"path": path, **content, **({"part": part} if part else {})}
        return self._known[path]

    def of_gold_links(self, config: dict[str, Any], test_data: str) -> Optional[Identity]:
        """Of the file beside the test data in which the reader of a config finds their gold links, if it does."""
        reader = config.get("validation_dataset_reader") or config.get("dataset_reader") or {}
        path = (reader.get("gold_links") or {}).get("path")
        return None if path is None else self.of_data(links_file(path, test_data))

    def of_archive(self, path: str) -> Identity:
        file = Path(path, ARCHIVE_NAME) if os.path.isdir(path) else Path(path)
        return {"path": path, **(self._of_file(file) if file.is_file() else {})}

    def of_training(self, config: dict[str, Any]) -> dict[str, Any]:
        """All that a training depends on besides its config: this package, and the files that the config names."""
        files = {}
        for text in _texts(config):
            file, _ = _file_of(text)
            if file is not None and file.resolve() not in (self._folder, *self._folder.parents):
                files[text] = self.of_data(text)
        return {"version": VERSION, "files": files}

    def of_training_data(self, config: dict[str, Any]) -> list[Identity]:
        """Of what a config's "train_data_path" names: as a rule one."""
        return [self.of_data(path) for path in _texts([config.get("train_data_path")])]

    def _of_file(self, file: Path) -> Identity:
        status = file.stat()
        if status.st_size > LARGEST_DIGESTED:
            return {"size": status.st_size, "modified": status.st_mtime_ns}
        key, now = str(file.resolve()), [status.st_size, status.st_mtime_ns]
        if self._digests.get(key, [])[:2] != now:
            with open(file, "rb") as content:
                digest = hashlib.sha256()
                while block := content.read(2**20):
                    digest.update(block)
            self._digests[key] = [*now, digest.hexdigest()]
        return {"sha256": self._digests[key][2]}

    def _of_folder(self, folder: Path) -> Identity:
        files = []
        for parent, _, names in os.walk(folder):
            files += [Path(parent, name) for name in names if Path(parent, name).is_file()]
            if len(files) > MOST_FILES:
                return {"modified": folder.stat().st_mtime_ns}
        contents = [[str(file.relative_to(folder)), self._of_file(file)] for file in sorted(files)]
        return {"sha256": hashlib.sha256(json.dumps(contents).encode()).hexdigest()}


def same_data(first: Optional[Identity], second: Optional[Identity]) -> bool:
    """Whether two data are the same, be it under two paths."""
    if first is None or second is None or "sha256" not in first:
        return first == second
    return {**first, "path": None} == {**second, "path": None}


def why_anew(known: Optional[dict[str, Any]], training: dict[str, Any]) -> str:
    """Why a training that is there is not the one that is wanted, in words."""
    if known is None:
        return "trained anew: nothing says by which data its model was trained"
    return f"trained anew: {changes(known['identity'], training)}"


def changes(before: dict[str, Any], now: dict[str, Any]) -> str:
    """What differs between two of `Identities.of_training`, in words."""
    found = []
    if before["version"] != now["version"]:
        found.append(f"regattn_allennlp was {before['version']} and is {now['version']}")
    for path in dict.fromkeys([*before["files"], *now["files"]]):
        if path not in now["files"]:
            found.append(f"{path} is gone")
        elif path not in before["files"]:
            found.append(f"{path} was not there")
        elif before["files"][path] != now["files"][path]:
            found.append(f"{path} has changed")
    return "; ".join(found)


def _texts(part: Any) -> Iterator[str]:
    """All texts in a part of a config, but for registered names."""
    if isinstance(part, str):
        yield part
    elif isinstance(part, dict):
        for key, value in part.items():
            if key != "type":
                yield from _texts(value)
    elif isinstance(part, list):
        for value in part:
            yield from _texts(value)


def _file_of(text: str) -> tuple[Optional[Path], str]:
    """
    The file or folder that a text names, and which part of it is meant: "train.jsonl[:100]", "a.zip!b.jsonl",
    "(a.zip)#b.txt", "folder:train".
    """
    name, _ = split_slice(text)
    inner = re.fullmatch(r"\((.+)\)#.+", name, re.DOTALL)
    for candidate in (name, inner[1] if inner else "", name.partition("!")[0], name.rpartition(":")[0]):
        path = os.path.expanduser(candidate)
        # A full stop or a slash is a token more often than the folder of that name.
        if re.search(r"\w", candidate) and os.path.exists(path):
            return Path(path), text.replace(candidate, "", 1)
    return None, ""
