"""A scikit-learn estimator: a linear classifier with any loss that a lossd server computes.

pip install '.[demo]'
python examples/training/scikit_learn.py
"""

from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lossd.cli.served import running_server
from lossd.client import LossClient
from lossd.v1.losses import CrossEntropy, Loss

Array = npt.NDArray[Any]


class RemoteLinearClassifier(ClassifierMixin, BaseEstimator):
    """Fits a linear model of the features to a loss over class scores.

    Args:
        loss: The loss with its parameters; None for cross-entropy.
        address: Where the server is.
        decay: Half of the factor of the squared weights that is added to the loss.
    """

    def __init__(
        self, loss: Loss | None = None, address: str = "localhost:50051", decay: float = 1e-3
    ) -> None:
        self.loss = loss
        self.address = address
        self.decay = decay

    def fit(self, features: Array, labels: Array) -> Self:
        """Finds the weights with L-BFGS; one call a step gives the loss and its gradient."""
        self.classes_, targets = np.unique(labels, return_inverse=True)
        shape = (features.shape[1], len(self.classes_))
        loss = CrossEntropy() if self.loss is None else self.loss
        with LossClient(self.address) as client:

            def value(flat: Array) -> tuple[float, Array]:
                weights = flat.reshape(shape)
                result = client.compute(loss, features @ weights, targets)
                gradient = features.T @ result.gradients["predictions"] + self.decay * weights
                return result.loss + self.decay / 2 * np.sum(weights**2), gradient.ravel()

            found = minimize(value, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B",
                             options={"maxiter": 50})  # fmt: skip
        self.coef_ = found.x.reshape(shape)
        return self

    def predict(self, features: Array) -> Array:
        """Returns the class with the largest score."""
        classes: Array = self.classes_[np.argmax(features @ self.coef_, axis=1)]
        return classes


def search(address: str) -> GridSearchCV:
    """Chooses a label smoothing by cross-validation."""
    images, labels = load_digits(return_X_y=True)
    estimator = make_pipeline(StandardScaler(), RemoteLinearClassifier(address=address))
    losses = [CrossEntropy(label_smoothing=smoothing) for smoothing in (0.0, 0.1)]
    found = GridSearchCV(estimator, {"remotelinearclassifier__loss": losses}, cv=3)
    return found.fit(images, labels)


def main() -> None:
    """Starts a server, searches and prints what was found."""
    with running_server() as server:
        found = search(server.address)
    smoothing = found.best_params_["remotelinearclassifier__loss"].label_smoothing
    print(f"label smoothing {smoothing:g}: recognised {found.best_score_:.3f}")


if __name__ == "__main__":
    main()
