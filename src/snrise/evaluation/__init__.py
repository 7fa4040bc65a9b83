"""Judging pictures: what samples are compared with, once for each data set, and everything that is told of them.

>>> print(snrise.evaluate("emoji-32", n=500))  # doctest: +SKIP
"""

from snrise.evaluation.evaluating import evaluate
from snrise.evaluation.fitting import Fit, fit
from snrise.evaluation.judging import Judgement, Metric, judge
from snrise.evaluation.reference import Reference

__all__ = ["Fit", "Judgement", "Metric", "Reference", "evaluate", "fit", "judge"]
