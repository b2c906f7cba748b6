"""Listeners for tests: what wraps a run's step or its evaluations."""

from ektf_jax.result import Result
from ektf_jax.training.listeners import Listener


class Wrap(Listener):
    """Wraps attributes of a run: Wrap(train_step=lambda step: ...)."""

    def __init__(self, **wrappers):
        self.wrappers = wrappers

    def begin(self, run):
        for name, wrap in self.wrappers.items():
            setattr(run, name, wrap(getattr(run, name)))


def before_step(number, act):
    """Calls `act` before the step after so many."""

    def wrap(step):
        def one(state, *batch):
            if int(state.step) == number:
                act()
            return step(state, *batch)

        return one

    return Wrap(train_step=wrap)


def at_evaluation(number, act):
    """Calls `act` before the evaluation of that number."""

    def wrap(evaluate):
        calls = []

        def one(split):
            calls.append(split)
            if len(calls) == number:
                act()
            return evaluate(split)

        return one

    return Wrap(evaluate=wrap)


def raising(error):
    def act():
        raise error

    return act


def result_of(workdir):
    """What result.json of a finished run has."""
    return Result.read(workdir).document
