"""Judging pictures: what samples are compared with, once for each data set, and everything that is told of them.

>>> from snrise.evaluation import Reference, judge  # doctest: +SKIP
>>> data = Reference.of(dataset, FEATURES["efficientnet-lite0"])  # doctest: +SKIP
>>> print(judge(generate(network, how, labels, 500), data))  # doctest: +SKIP
"""

from snrise.evaluation.fitting import Fit, fit
from snrise.evaluation.judging import Judgement, Metric, judge
from snrise.evaluation.reference import Reference

__all__ = ["Fit", "Judgement", "Metric", "Reference", "fit", "judge"]
