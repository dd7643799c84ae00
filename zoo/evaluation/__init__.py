"""Evaluation through mteb: official tasks and tasks over the user's own data, at any number of views."""

from zoo.evaluation.evaluate import evaluate, list_missed
from zoo.evaluation.prepare import Prepared, check_encoder, prepare

__all__ = ["Prepared", "check_encoder", "evaluate", "list_missed", "prepare"]
