from typing import Optional

from allennlp.common.checks import ConfigurationError
from sacrebleu.metrics import BLEU

from regattn_allennlp.training.metrics.text_metrics.sacrebleu_metric import SacrebleuMetric
from regattn_allennlp.training.metrics.text_metrics.text_metric import TextMetric


@TextMetric.register("bleu")
class Bleu(SacrebleuMetric):
    """
    BLEU (Papineni et al. 2002) by sacrebleu, from 0 to 100. A sentence's score leaves out the orders of n-grams that
    the sentence is too short for (sacrebleu's effective order). With the defaults, sacrebleu's signature of the score
    is `nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp`.

    Registered as a `TextMetric` with name "bleu", which is also the name of its score.

    # Parameters

    tokenize : `str`, optional (default = sacrebleu's: `"13a"`)
        sacrebleu's tokenizer. `"none"` for texts that are tokenized already, as those of IWSLT14 usually are.
    lowercase : `bool`, optional (default = `False`)
        Take upper and lower case for the same.
    """

    name = "bleu"

    def __init__(self, tokenize: Optional[str] = None, lowercase: bool = False) -> None:
        if tokenize is not None and tokenize not in BLEU.TOKENIZERS:
            raise ConfigurationError(f'tokenize must be one of {sorted(BLEU.TOKENIZERS)}, but is "{tokenize}"')
        super().__init__(
            # By `force` sacrebleu does not complain, once a batch, of texts that look tokenized.
            BLEU(tokenize=tokenize, lowercase=lowercase, force=True),
            BLEU(tokenize=tokenize, lowercase=lowercase, force=True, effective_order=True),
        )
