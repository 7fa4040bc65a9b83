"""Evaluation: samples against a reference data set, and the loss and likelihood of held-out images.

>>> print(snrise.evaluate("emoji-32", n=500))  # doctest: +SKIP
"""

from snrise.evaluation.evaluating import evaluate
from snrise.evaluation.fitting import Fit, fit, likelihood
from snrise.evaluation.judging import Judgement, judge, measures
from snrise.evaluation.reference import Reference

__all__ = ["Fit", "Judgement", "Reference", "evaluate", "fit", "judge", "likelihood", "measures"]
