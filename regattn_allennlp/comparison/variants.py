"""
What a comparison compares: variants, which differ in the attention, in the latent alignment or in the alignment
regularizer, and their trials, which differ in the seed.
"""

import copy
import hashlib
import inspect
import itertools
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.common.params import parse_overrides

import regattn_allennlp.config_variables  # noqa: F401  (the configs read the environment)
from regattn_allennlp.predictors.archives import read_config, task_of

SEED_KEYS = ("random_seed", "numpy_seed", "pytorch_seed")
# What a folder's name may hold of a variant's.
MAX_FOLDER_NAME_LENGTH = 60

# The key of an alignment regularizer's block, of self-attention anywhere in a model.
REGULARIZER_KEY = "alignment_regularizer"
# The word that stands for having no regularizer.
NO_REGULARIZER = "none"


@dataclass(frozen=True)
class Trial:
    """
    One run of a variant: a training with its own seed, or a model that is trained already.

    # Parameters

    variant : `str`
        The variant's name.
    seed : `int`, optional
        `None` for an archive whose config does not tell.
    folder : `Path`
        Where all of it is kept, of its own.
    config : `dict`
        What to train, or what the archive was trained by.
    archive : `str`, optional
        What is trained already.
    """

    variant: str
    seed: Optional[int]
    folder: Path
    config: dict[str, Any]
    archive: Optional[str] = None


@dataclass(frozen=True)
class Variant:
    """
    A config, whose attention, latent alignment and alignment regularizer name it, with one or several seeds; `source`
    is where the config is from.
    """

    name: str
    source: str
    config: dict[str, Any]
    trials: list[Trial]

    @property
    def attention(self) -> dict[str, Any]:
        return self.config["model"]["attention"]

    @property
    def latent_alignment(self) -> Optional[dict[str, Any]]:
        return self.config["model"].get("latent_alignment")

    @property
    def alignment_regularizer(self) -> Any:
        """The block of the model's self-attentions, or `None`; of those that differ a list, in the config's order."""
        blocks = regularizers_of(self.config["model"])
        return blocks if len(blocks) > 1 else next(iter(blocks), None)


def parse_block(option: str, argument: str) -> list[dict[str, Any]]:
    """
    The blocks that an argument of the option, such as `--attention`, stands for: a name, "softmax"; a block,
    {"type": "fusedmax", "lam": 0.2}; or a block with lists of numbers in the place of numbers, which stands for a
    block of each combination.
    """
    if not argument.lstrip().startswith("{"):
        argument = json.dumps({"type": argument.strip()})
    try:
        block = parse_overrides(argument)  # Jsonnet, as all that AllenNLP is configured by
    except RuntimeError as error:
        raise ConfigurationError(f"{option} {argument} is no JSON object: {error}") from error
    if not isinstance(block.get("type"), str) or not block["type"]:
        raise ConfigurationError(f'{option} {argument} needs a "type", as {{"type": "fusedmax", "lam": 0.2}} has')
    swept = {key: values for key, values in block.items() if isinstance(values, list)}
    for key, values in swept.items():
        if not values:
            raise ConfigurationError(f'{option} {argument}: "{key}" has no values')
    return [
        {**block, **dict(zip(swept, combination, strict=True))} for combination in itertools.product(*swept.values())
    ]


def block_name(block: dict[str, Any]) -> str:
    """ "fusedmax gamma=1.0 lam=0.2" for {"type": "fusedmax", "gamma": 1.0, "lam": 0.2}."""
    arguments = (
        f"{key}={value if not isinstance(value, (dict, list)) else json.dumps(value, separators=(',', ':'))}"
        for key, value in block.items()
        if key != "type"
    )
    return " ".join([str(block.get("type", "default")), *arguments])


def variant_name(model: dict[str, Any]) -> str:
    """
    "softmax, exact" and "softmax, mmd weight=0.1": the attention of a config's block "model" and, if there are any,
    its latent alignment and its alignment regularizers; "softmax, no alignment regularizer" where the place of one is
    there and empty.
    """
    names = [block_name(model["attention"])]
    alignment = model.get("latent_alignment")
    if alignment is not None:
        names.append(block_name(alignment))
    regularizers = regularizers_of(model)
    if regularizers:
        names.append(
            " and ".join("no alignment regularizer" if block is None else block_name(block) for block in regularizers)
        )
    return ", ".join(names)


def regularizers_of(model: Any) -> list[Optional[dict[str, Any]]]:
    """The blocks at the key "alignment_regularizer" anywhere in a block, each once, in its order; `None` for null."""
    distinct: list[Optional[dict[str, Any]]] = []
    for block in _find_regularizers(model):
        if block not in distinct:
            distinct.append(block)
    return distinct


def _find_regularizers(part: Any) -> Iterator[Optional[dict[str, Any]]]:
    values = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
    for key, value in values:
        if key == REGULARIZER_KEY:
            yield value
        else:
            yield from _find_regularizers(value)


def replace_regularizers(part: Any, block: Optional[dict[str, Any]]) -> Any:
    """A copy of a config's part with the block in the place of each that `regularizers_of` finds."""
    if isinstance(part, list):
        return [replace_regularizers(value, block) for value in part]
    if not isinstance(part, dict):
        return part
    return {
        key: copy.deepcopy(block) if key == REGULARIZER_KEY else replace_regularizers(value, block)
        for key, value in part.items()
    }


def make_variants(
    sources: Sequence[str],
    attentions: Sequence[str],
    latent_alignments: Sequence[str],
    seeds: Sequence[int],
    overrides: str,
    folder: Path,
    alignment_regularizers: Sequence[str] = (),
) -> list[Variant]:
    """
    The variants of all combinations of configs, attentions, latent alignments and alignment regularizers, and of the
    archives; those archives are one variant whose configs are alike but for the seeds.

    # Parameters

    sources : `Sequence[str]`
        Configs, and archives: a `.tar.gz`, or a folder that `allennlp train` wrote.
    attentions : `Sequence[str]`
        See `parse_block`; none: each config's own.
    latent_alignments : `Sequence[str]`
        As the attentions.
    overrides : `str`
        As of `allennlp train`; for the configs.
    folder : `Path`
        Of the comparison; each trial gets a folder in it, by what it trains: another config is another folder.
    alignment_regularizers : `Sequence[str]`, optional (default = `()`)
        As the attentions, or "none"; each stands in the place of every block "alignment_regularizer" in a model.

    # Raises

    `ConfigurationError`
        For a source that cannot be read, overrides that do not fit, variants that are the same; for latent alignments
        or alignment regularizers where a model takes none.
    """
    given: dict[str, list[Optional[dict[str, Any]]]] = {
        "attention": [block for argument in attentions for block in parse_block("--attention", argument)],
        "latent_alignment": [
            block for argument in latent_alignments for block in parse_block("--latent-alignment", argument)
        ],
        REGULARIZER_KEY: [block for argument in alignment_regularizers for block in _parse_regularizer(argument)],
    }
    # Of each combination what stands in the place of the model's own; a block as a whole.
    replacements = [
        dict(zip([name for name in given if given[name]], combination, strict=True))
        for combination in itertools.product(*filter(None, given.values()))
    ]
    configs: list[tuple[str, dict[str, Any]]] = []
    archives: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for source in sources:
        if os.path.isdir(source) or source.endswith(".tar.gz"):
            config = read_config(source)
            _check_attention(source, config)
            archives.setdefault(without_seeds(config), []).append((source, config))
        else:
            config = _read_config(source, overrides)
            if given["latent_alignment"]:
                _check_takes_alignment(source, config)
            if given[REGULARIZER_KEY]:
                _check_takes_regularizer(source, config)
            configs += [
                (source, {**config, "model": _replaced(config["model"], replacement)}) for replacement in replacements
            ]
    for name, blocks_of_option in given.items():
        if blocks_of_option and not configs:
            option = f"--{name.replace('_', '-')}"
            raise ConfigurationError(f"{option} needs a config to train; the archives are trained already.")
    if overrides and not configs:
        raise ConfigurationError("--overrides change what is trained; the archives are trained already.")

    names = distinct_names([*configs, *(runs[0] for runs in archives.values())])
    variants = []
    for name, (source, config) in zip(names, configs, strict=False):
        # By what is trained alone, whatever it is compared with.
        own_folder = folder / "trials" / _folder_name(variant_name(config["model"]), without_seeds(config))
        trials = [
            Trial(name, seed, own_folder / f"seed{seed}", config={**config, **dict.fromkeys(SEED_KEYS, seed)})
            for seed in seeds
        ]
        variants.append(Variant(name, source, config, trials))
    for name, runs in zip(names[len(configs) :], archives.values(), strict=True):
        trials = []
        for path, config in runs:
            absolute = path if "://" in path else os.path.abspath(path)
            own_folder = folder / "trials" / _folder_name(variant_name(config["model"]), absolute)
            trials.append(Trial(name, config.get(SEED_KEYS[0]), own_folder, config, archive=absolute))
        variants.append(Variant(name, *runs[0], trials))

    seen = set()
    for trial in (trial for variant in variants for trial in variant.trials):
        content = trial.archive or json.dumps(trial.config, sort_keys=True)
        if content in seen:
            raise ConfigurationError(f'"{trial.variant}" is given twice.')
        seen.add(content)
    return variants


def _read_config(path: str, overrides: str) -> dict[str, Any]:
    try:
        config = Params.from_file(path, overrides).as_dict(quiet=True)
    except FileNotFoundError as error:
        raise ConfigurationError(
            f'There is no config "{path}". An archive is given as its folder or as a file model.tar.gz.'
        ) from error
    except (RuntimeError, ValueError) as error:  # Jsonnet's, and those of the overrides
        raise ConfigurationError(f"{path}: {error}") from error
    _check_attention(path, config)
    return config


def _check_attention(path: str, config: dict[str, Any]) -> None:
    if not isinstance(config.get("model", {}).get("attention"), dict):
        raise ConfigurationError(f'{path} has no block "attention" in its "model": what is compared is that block.')


def _check_takes_alignment(source: str, config: dict[str, Any]) -> None:
    task = task_of(source, config)
    if "latent_alignment" not in inspect.signature(task.model.__init__).parameters:
        raise ConfigurationError(
            f"--latent-alignment: the model of {source}, {config['model']['type']}, takes none; it is for models that "
            "predict from what they attend to, such as attentional_seq2seq and attentional_vqa."
        )


def _check_takes_regularizer(source: str, config: dict[str, Any]) -> None:
    if not any(True for _ in _find_regularizers(config["model"])):
        raise ConfigurationError(
            f'--alignment-regularizer: the "model" of {source} has no key "{REGULARIZER_KEY}". It stands in the block '
            f'of a layer of self-attention, as model.encoder.{REGULARIZER_KEY}, and may be null: "none" is then what '
            "the config has."
        )


def _parse_regularizer(argument: str) -> list[Optional[dict[str, Any]]]:
    if argument.strip() == NO_REGULARIZER:
        return [None]
    return [*parse_block("--alignment-regularizer", argument)]


def _replaced(model: dict[str, Any], replacement: dict[str, Any]) -> dict[str, Any]:
    """The block "model" with others in the place of some of its blocks, by their names."""
    own = {name: block for name, block in replacement.items() if name != REGULARIZER_KEY}
    if REGULARIZER_KEY in replacement:
        model = replace_regularizers(model, replacement[REGULARIZER_KEY])
    return {**model, **own}


def without_seeds(config: dict[str, Any]) -> str:
    """The same text for the same config, whatever its seeds."""
    return json.dumps({key: value for key, value in config.items() if key not in SEED_KEYS}, sort_keys=True)


def distinct_names(configs: Sequence[tuple[str, dict[str, Any]]]) -> list[str]:
    """
    See `variant_name`. Where that is not enough to tell configs apart, the sources follow, if they do: "softmax
    (a.jsonnet)"; or else what the configs differ in: "softmax (trainer.num_epochs=2)".
    """
    names = [variant_name(config["model"]) for _, config in configs]
    distinct = list(names)
    for name in {name for name in names if names.count(name) > 1}:
        alike = [index for index, other in enumerate(names) if other == name]
        sources = [configs[index][0] for index in alike]
        flat = [flattened({**configs[index][1], **dict.fromkeys(SEED_KEYS)}) for index in alike]
        keys = [key for key in dict.fromkeys(itertools.chain(*flat)) if len({one.get(key) for one in flat}) > 1]
        for index, source, values in zip(alike, sources, flat, strict=True):
            what = source
            if len(set(sources)) < len(sources):
                what = ", ".join(f"{key}={values.get(key, 'none')}" for key in keys) or source
            distinct[index] = f"{name} ({what})"
    return distinct


def flattened(part: Any, prefix: str = "") -> dict[str, str]:
    """The values of a config, as JSON, by their paths: {"trainer.num_epochs": "2"}."""
    if not isinstance(part, dict):
        return {prefix: json.dumps(part)}
    return {
        path: value
        for key, inner in part.items()
        for path, value in flattened(inner, f"{prefix}.{key}" if prefix else str(key)).items()
    }


def _folder_name(name: str, content: str) -> str:
    digest = hashlib.sha256(content.encode()).hexdigest()[:8]
    return f"{re.sub(r'[^A-Za-z0-9.=+-]+', '_', name)[:MAX_FOLDER_NAME_LENGTH]}-{digest}"
