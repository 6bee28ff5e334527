"""Tables bundled with scikit-learn: breast cancer and wine (classification), diabetes (regression).

The division of each table is fixed, with a fifth for validation and a fifth for test.
"""

from typing import Any

import numpy as np
from sklearn import datasets
from sklearn.model_selection import train_test_split

from experiments.data.dataset import Dataset, Split


def breast_cancer() -> Dataset:
    """Loads breast masses with 30 measurements of their cells: 0 malignant, 1 benign.

    Inputs f32[n, 30] in the units of the measurements, targets i32[n]; 569 examples.

    Source: W. Wolberg, O. Mangasarian, N. Street, W. Street, "Breast Cancer Wisconsin
    (Diagnostic)", UCI Machine Learning Repository, 1995; CC BY 4.0.

    Example:
      >>> data = breast_cancer()
      >>> [part.inputs.shape for part in (data.train, data.validation, data.test)]
      [(341, 30), (114, 30), (114, 30)]
    """
    source = (
        "Breast Cancer Wisconsin, Diagnostic (W. Wolberg et al., 1995; UCI Machine Learning "
        "Repository, CC BY 4.0; bundled with scikit-learn)"
    )
    return _divided("breast_cancer", datasets.load_breast_cancer(), 2, source)


def wine() -> Dataset:
    """Loads wines of three growers with 13 chemical measurements.

    Inputs f32[n, 13] in the units of the measurements, targets i32[n]; 178 examples.

    Source: S. Aeberhard, M. Forina, "Wine", UCI Machine Learning Repository, 1992;
    CC BY 4.0.

    Example:
      >>> data = wine()
      >>> [part.inputs.shape for part in (data.train, data.validation, data.test)]
      [(106, 13), (36, 13), (36, 13)]
    """
    source = (
        "Wine (S. Aeberhard, M. Forina, 1992; UCI Machine Learning Repository, CC BY 4.0; "
        "bundled with scikit-learn)"
    )
    return _divided("wine", datasets.load_wine(), 3, source)


def diabetes() -> Dataset:
    """Loads the progression of diabetes after a year, with ten measurements at baseline.

    Inputs f32[n, 10] (age in years, sex, body mass index in kg/m2, mean blood pressure and
    six serum measurements), targets f32[n, 1] from 25 to 346; 442 examples.

    Source: B. Efron, T. Hastie, I. Johnstone, R. Tibshirani, "Least Angle Regression",
    Annals of Statistics 32(2), 2004.

    Example:
      >>> data = diabetes()
      >>> [part.targets.shape for part in (data.train, data.validation, data.test)]
      [(264, 1), (89, 1), (89, 1)]
    """
    source = "Diabetes (B. Efron et al., 2004; bundled with scikit-learn, BSD-3-Clause)"
    return _divided("diabetes", datasets.load_diabetes(scaled=False), 0, source)


def _divided(name: str, bundled: Any, classes: int, source: str) -> Dataset:
    targets = bundled.target.astype(np.int32 if classes else np.float32)
    everything = Split(bundled.data.astype(np.float32), targets if classes else targets[:, None])
    fifth = -(-len(targets) // 5)
    parts = parts_at_random(everything, fifth, fifth, stratified=classes > 0)
    return Dataset.from_parts(name, parts, classes, source)


def parts_at_random(
    everything: Split, validation: int, test: int, *, stratified: bool = True
) -> tuple[Split, Split, Split]:
    """Divides examples into fixed random training, validation and test parts.

    Args:
      everything: the examples to divide.
      validation: the number of validation examples.
      test: the number of test examples.
      stratified: whether to keep the proportions of the classes in each part.
    """
    rest, test_part = two_parts(everything, test, stratified=stratified)
    return *two_parts(rest, validation, stratified=stratified), test_part


def two_parts(examples: Split, held_out: int, *, stratified: bool = True) -> tuple[Split, Split]:
    """Divides examples into two fixed random parts; the second has `held_out` examples."""
    stratify = examples.targets if stratified else None
    pieces = train_test_split(*examples, test_size=held_out, random_state=0, stratify=stratify)
    return Split(pieces[0], pieces[2]), Split(pieces[1], pieces[3])
