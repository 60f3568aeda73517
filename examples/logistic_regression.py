"""A scikit-learn classifier on `lp.minimize`: python -m examples.logistic_regression.

The objective is that of scikit-learn's `LogisticRegression`: C times the sum of the losses, plus
half the squared coefficients; the intercept is free. It passes `check_estimator`.
"""

import argparse
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from threadpoolctl import threadpool_limits

import jax_lbfgs_pi as lp
from benchmarks.solvers import Problem
from benchmarks.timing import compare
from examples.beside import everyone, race, show

FITS = ("", "objectives apart", "ours, s", "scikit-learn, s")


def loss(params, data):
    """Shape of `params["W"]`: `(inputs, K)`, K the classes, or 1 for two of them."""
    scores = data["X"] @ params["W"] + params["b"]
    if scores.shape[1] == 1:  # two classes: one score
        scores = jnp.concatenate([jnp.zeros_like(scores), scores], 1)
    right = jnp.take_along_axis(scores, data["y"][:, None], 1)[:, 0]
    total = jnp.sum(jax.nn.logsumexp(scores, 1) - right)
    # In the mean a gradient's size does not depend on how many samples there are.
    return (data["C"] * total + 0.5 * jnp.sum(params["W"] ** 2)) / (data["C"] * len(data["y"]))


@partial(jax.jit, static_argnames=("max_iter", "fit_intercept"))
def solve(params, data, tol, max_iter, fit_intercept):
    """The fit, compiled once for each shape."""

    def fun(params, data):
        b = params["b"] if fit_intercept else jnp.zeros_like(params["b"])
        return loss({"W": params["W"], "b": b}, data)

    stopping = lp.Stopping(gtol=tol, norm="max")
    return lp.minimize(fun, params, (data,), tol=stopping, max_iters=max_iter)


class LBFGSPiClassifier(ClassifierMixin, BaseEstimator):
    """Logistic regression, multinomial for more than two classes.

    Attributes:
      coef_: shape `(classes, inputs)`, or `(1, inputs)` for two classes.
      intercept_: shape `(classes,)` or `(1,)`.
      classes_: the labels.
      n_iter_: steps taken.
      result_: the `lp.MinimizeResult`.
    """

    def __init__(self, C=1.0, *, fit_intercept=True, tol=1e-6, max_iter=1000):
        """Makes a classifier; `tol` bounds the greatest entry of the mean loss's gradient."""
        self.C = C
        self.fit_intercept = fit_intercept
        self.tol = tol
        self.max_iter = max_iter

    def fit(self, X, y):
        """Fits, in float64 whatever JAX is set to."""
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"The data has 1 class, {self.classes_[0]!r}, but two are needed.")
        width = 1 if len(self.classes_) == 2 else len(self.classes_)
        with jax.enable_x64(True):
            data = {"X": jnp.asarray(X), "y": jnp.asarray(labels), "C": jnp.asarray(self.C, float)}
            start = {"W": jnp.zeros((X.shape[1], width)), "b": jnp.zeros(width)}
            self.result_ = jax.device_get(
                solve(start, data, self.tol, self.max_iter, self.fit_intercept)
            )
        self.coef_, self.intercept_ = self.result_.params["W"].T, self.result_.params["b"]
        self.n_iter_ = max(1, int(self.result_.num_iters))
        return self

    def decision_function(self, X):
        """Scores, shape `(num, classes)`, or `(num,)` for two classes."""
        check_is_fitted(self)
        scores = validate_data(self, X, dtype=np.float64, reset=False) @ self.coef_.T
        scores = scores + self.intercept_
        return scores[:, 0] if scores.shape[1] == 1 else scores

    def predict_proba(self, X):
        """Probabilities, shape `(num, classes)`."""
        scores = self.decision_function(X)
        if scores.ndim == 1:
            scores = np.stack([np.zeros_like(scores), scores], 1)
        odds = np.exp(scores - scores.max(1, keepdims=True))
        return odds / odds.sum(1, keepdims=True)

    def predict(self, X):
        """The likeliest labels."""
        best = np.argmax(self.predict_proba(X), 1)  # which says whether it is fitted
        return self.classes_[best]


def datasets():
    """scikit-learn's, standardised, by name."""
    from sklearn import datasets

    loaders = {
        "iris": datasets.load_iris, "wine": datasets.load_wine,
        "breast cancer": datasets.load_breast_cancer, "digits": datasets.load_digits,
    }  # fmt: skip
    for name, load in loaders.items():
        X, y = load(return_X_y=True)
        yield name, (X - X.mean(0)) / np.where(X.std(0) > 0, X.std(0), 1.0), y


def objective(model, X, y):
    """scikit-learn's objective at a fitted model, as a float."""
    data = {"X": X, "y": np.searchsorted(model.classes_, y), "C": model.C}
    return float(loss({"W": model.coef_.T, "b": model.intercept_}, data)) * model.C * len(y)


def whole_fits(X, y, seconds):
    """Calls of `fit` that end within 1e-8 of the least objective, and their seconds.

    Each has the greatest tolerance of 1e-3, 1e-4, ... that suffices, and one BLAS thread.

    Returns:
      How far apart the least objectives are, as a share; seconds of ours, and of scikit-learn's.
    """
    kinds = {"ours": LBFGSPiClassifier, "scikit-learn": LogisticRegression}
    tried = {
        name: [kind(tol=10.0**-i, max_iter=10_000).fit(X, y) for i in range(3, 11)]
        for name, kind in kinds.items()
    }
    ours, theirs = (min(objective(m, X, y) for m in models) for models in tried.values())
    limit = min(ours, theirs) * (1 + 1e-8)
    fits = {
        name: partial(next(m for m in models if objective(m, X, y) <= limit).fit, X, y)
        for name, models in tried.items()
    }
    with threadpool_limits(1, user_api="blas"):
        timing = compare(fits, budget=seconds)
    return abs(ours - theirs) / theirs, *(timing.seconds[name] for name in kinds)


def main(seconds=10.0, names=("iris", "wine", "breast cancer", "digits")):
    """The races, and whole fits beside scikit-learn's."""
    jax.config.update("jax_enable_x64", True)
    outcomes, fits = {}, []
    for name, X, y in datasets():
        if name not in names:
            continue
        fits.append([name, *whole_fits(X, y, seconds / 2)])
        width = 1 if y.max() == 1 else int(y.max()) + 1
        x0 = {"W": np.zeros((X.shape[1], width)), "b": np.zeros(width)}
        data = {"X": X, "y": y, "C": np.asarray(1.0)}
        problem = Problem(loss, x0, data)
        makers = everyone(10)
        title = f"{name}, n = {(X.shape[1] + 1) * width}, to 1e-8 of the reduction"
        outcomes |= race(title, problem, makers, budget=1000, level=1e-8, seconds=seconds)
    return outcomes | show("whole fits, to 1e-8 of the objective", FITS, fits)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    main()
