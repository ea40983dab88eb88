"""What a trained model's modalities are worth to it: the value of each subset, from which chapter 12 measures reliance.

The *value* v(S) is the model's metric when it is given the modalities of S alone, with the sign that makes more of it
better; v of no modality is that of a constant. All values of a split are computed on the same resamples of its samples,
so that what they have in common cancels in their differences.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mmwa_utils.evaluation.metrics import LOWER_IS_BETTER, Counts
from mmwa_utils.evaluation.statistics import Resamples, measure
from mmwa_utils.training.store import Predictions
from mmwa_utils.types import Task


def coalition_values(
    task: Task, metric: str, predictions: Mapping[Any, Predictions], counts: Counts
) -> dict[Any, Resamples]:
    """Return the value of each set of predictions on every resample; of no modality, the better of two constants'.

    One constant is what was predicted given no modality, the training prior; the other is the model's own mean output.
    A model that says the same of every sample can beat the prior (which has an F1 of 0 where no label reaches one
    half). It reads nothing, and against its own mean it gains nothing; against the prior its gain would be divided
    equally, as if it were balanced.

    Args:
        task: the dataset's task.
        metric: one of the task's metrics.
        predictions: for each subset of the modalities, also the empty one; and under any other conditions.
        counts: how often each sample occurs in each resample; the constant is chosen once, on the split as it is.
    """
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    prior = predictions[frozenset()]
    whole = predictions[max((some for some in predictions if isinstance(some, frozenset)), key=len)]
    own = Predictions(whole.ids, np.tile(whole.logits.mean(axis=0), (len(whole.ids), 1)), whole.truth)
    once = np.ones_like(counts[:1])
    constant = max((prior, own), key=lambda p: sign * measure(task, metric, p.truth, p.logits, once)[0])
    chosen = {**predictions, frozenset(): constant}
    return {key: sign * measure(task, metric, p.truth, p.logits, counts) for key, p in chosen.items()}
