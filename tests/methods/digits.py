"""scikit-learn's digits, and what its models make of rows of features.

question: metadata "seed": rows are shuffled by it, 1,200 to train on, 597 to test.
          Or tensors "x" [n, D], "y" [n, C] and metadata "ridge" = gamma: the ridge regression without intercept.
          Or tensors "x" [n, D], "label" [n] and metadata "svm" = C: the linear SVM, squared hinge, one against the rest.
answer:   "train_x", "train_y", "test_x", "test_y" (pixels in 0..16); or "weight" [C, D]; or "weight", "bias", "answers"."""
import sys

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file, save_file


def digits(seed):
    from sklearn.datasets import load_digits

    data = load_digits()
    order = np.random.RandomState(seed).permutation(len(data.target))
    x, y = data.data[order].astype(np.float32), data.target[order].astype(np.int64)
    return {"train_x": x[:1200], "train_y": y[:1200], "test_x": x[1200:], "test_y": y[1200:]}


def ridge(x, y, gamma):
    from sklearn.linear_model import Ridge

    model = Ridge(alpha=gamma, fit_intercept=False, solver="cholesky").fit(x.astype(np.float64), y.astype(np.float64))
    return {"weight": model.coef_.astype(np.float64)}


def svm(x, label, c):
    from sklearn.svm import LinearSVC

    model = LinearSVC(dual=False, C=c, tol=1e-8, max_iter=100000).fit(x, label)
    return {"weight": model.coef_, "bias": model.intercept_, "answers": model.predict(x).astype(np.int64)}


def main(question, answer):
    with safe_open(question, "np") as file:
        asked = file.metadata()
    tensors = load_file(question)
    if "seed" in asked:
        out = digits(int(asked["seed"]))
    elif "ridge" in asked:
        out = ridge(tensors["x"], tensors["y"], float(asked["ridge"]))
    else:
        out = svm(tensors["x"], tensors["label"], float(asked["svm"]))
    save_file({name: np.ascontiguousarray(array) for name, array in out.items()}, answer)


main(*sys.argv[1:])
