"""XGBoost and LightGBM with losses that they do not have, computed by a lossd server.

    pip install '.[demo]' xgboost lightgbm
    python examples/training/boosting.py [--trees 50]

Focal loss counts examples less that are told apart already; the table has the ROC AUC on examples
that were not trained on.
"""

import argparse

import lightgbm
import xgboost
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

from lossd.cli.served import running_server
from lossd.client.boosting import objective
from lossd.v1 import BinaryCrossEntropy, Focal


def scores(address: str, trees: int) -> dict[str, float]:
    """Returns the ROC AUC of each library with each loss."""
    features, labels = load_breast_cancer(return_X_y=True)
    seen, unseen, known, wanted = train_test_split(features, labels, test_size=0.5, random_state=0)
    found = {}
    for loss in (BinaryCrossEntropy(), Focal(gamma=2)):
        asked = objective(loss, address)
        name = type(loss).__name__
        boosted = xgboost.XGBClassifier(objective=asked, n_estimators=trees, base_score=0.5)
        margins = boosted.fit(seen, known).predict(unseen, output_margin=True)
        found[f"XGBoost, {name}"] = float(roc_auc_score(wanted, margins))
        light = lightgbm.LGBMClassifier(objective=asked, n_estimators=trees, verbose=-1)
        margins = light.fit(seen, known).predict(unseen, raw_score=True)
        found[f"LightGBM, {name}"] = float(roc_auc_score(wanted, margins))
    return found


def main() -> None:
    """Starts a server, trains and prints a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trees", type=int, default=50)
    with running_server() as server:
        for name, area in scores(server.address, parser.parse_args().trees).items():
            print(f"{name}: {area:.4f}")


if __name__ == "__main__":
    main()
