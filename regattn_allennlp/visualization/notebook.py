"""Attention in a notebook: the page that `allennlp show-attention` writes, below the cell that asks for it."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from allennlp.common.checks import ConfigurationError
from allennlp.common.util import JsonDict

from regattn_allennlp.visualization.attention_page import (
    attention_page,
    page_example,
    page_panels,
    panel_title,
    panels_of,
)

if TYPE_CHECKING:  # predictors know this package, not the other way round
    from regattn_allennlp.predictors.attention_predictor import AttentionPredictor

# Until the page is loaded, which then takes as much as it needs; in pixels.
HEIGHT = 480


class AttentionHtml:
    """What `attention_html` returns: Jupyter and its like show it as a page in a frame."""

    def __init__(self, page: str, description: str) -> None:
        self.page = page
        self._description = description

    def save(self, path: str | Path) -> None:
        """Writes the page as a file of its own, which needs no notebook and no network."""
        Path(path).write_text(self.page, encoding="utf-8")

    def _repr_html_(self) -> str:
        # In a frame, so that neither the notebook's style nor its scripts meet the page's.
        page = self.page.replace("&", "&amp;").replace("'", "&#39;")  # all else, such as its many ", stays as short
        return (
            f"<iframe title='{html.escape(self._description)}' style='width: 100%; height: {HEIGHT}px; border: 0' "
            'onload="this.style.height = `${this.contentDocument.documentElement.scrollHeight}px`" '
            f"srcdoc='{page}'></iframe>"
        )

    def __repr__(self) -> str:
        return f"<{self._description}>"


def attention_html(
    predictors: AttentionPredictor | Mapping[str, AttentionPredictor],
    items: JsonDict | Sequence[JsonDict],
    golds: Optional[Sequence[Optional[str]]] = None,
    alignment: str = "prior",
) -> AttentionHtml:
    """
    Shows in a notebook what a trained model, or several side by side, attends to.

        from allennlp.predictors import Predictor
        from regattn_allennlp.visualization import attention_html

        predictor = Predictor.from_path("output/fusedmax")
        attention_html(predictor, {"premise": "A dog sleeps.", "hypothesis": "An animal is asleep."})

    # Parameters

    predictors : `Union[AttentionPredictor, Dict[str, AttentionPredictor]]`
        One, or those of one task by the names to show them under.
    items : `Union[Dict[str, Any], List[Dict[str, Any]]]`
        What the predictors' `predict_json` takes, once or several times.
    golds : `List[Optional[str]]`, optional (default = `None`)
        The right answer to each item, where it is known.
    alignment : `str`, optional (default = `"prior"`)
        If "posterior", what is shown are the weights of the "target", or the "answer", that each item has: the prior
        and, beside it, what a latent alignment makes of that once the target is known. If "approximate_posterior",
        besides them what the inference network holds the posterior to be.

    # Raises

    `ConfigurationError`
        For what is no predictor of attention, for items that cannot be predicted, and for `golds` of another number;
        for an alignment that a model has not, and for items without a target to align.
    """
    by_name = predictors if isinstance(predictors, Mapping) else {"model": predictors}
    items = [items] if isinstance(items, dict) else list(items)
    golds = [None] * len(items) if golds is None else golds
    if len(golds) != len(items):
        raise ConfigurationError(f"There are {len(golds)} golds for {len(items)} items: give one for each, or none.")
    for name, predictor in by_name.items():
        if not hasattr(predictor, "attention_map"):
            raise ConfigurationError(
                f'"{name}" is a {type(predictor).__name__}, which shows no attention; wanted is what '
                "`Predictor.from_path` returns for a model of this package."
            )
    panels = panels_of(alignment)
    for name, predictor in by_name.items():
        if alignment != "prior":
            predictor.require_distribution(alignment, name)
    of_models = [
        page_panels(predictor, items, predictor._model.attention_directions, panels) for predictor in by_name.values()
    ]
    examples = [
        page_example(item, gold, [one for of_model in predictions for one in of_model])
        for item, gold, *predictions in zip(items, golds, *of_models, strict=True)
    ]
    titles = [panel_title(name, panel) for name in by_name for panel in panels]
    description = f"attention of {', '.join(by_name)}; items: {len(items)}"
    return AttentionHtml(attention_page(titles, examples, are_given=alignment != "prior"), description)
