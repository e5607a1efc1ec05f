"""Cross-conformal calibration (Vovk 2015): every nominal image both trains and calibrates.

The nominal images are dealt to K folds by chance; model k learns from all folds but the k-th and scores the k-th. With
n out-of-fold scores R_i the p-value of a new image, whose score by model k is s_k, is

    p = (1 + sum over folds k of #{i in fold k: R_i >= s_k}) / (n + 1).

In practice p <= alpha happens to at most the share alpha of nominal images. What is *proven* is less, because a new
image meets K models while a calibration image met one: `cross_conformal_bound`.

A trained detector's anomaly map is the pixelwise minimum of the K models' maps. The maximum of that map is at most each
s_k, so its p-value among all n out-of-fold scores (`Calibration` with `folds`) is at least the cross-conformal one: one
score, one threshold, and the bound holds for them. For the score of any other model, such as one that learned from all
n images, nothing is proven.
"""

from collections.abc import Sequence


def cross_conformal_bound(rate: float, folds: Sequence[int]) -> float:
    """The proven bound on P(p <= rate) of cross-conformal p-values, for a new image exchangeable with the n others.

    The bound is 2 rate + 2 (1 - rate) (K - 1) / (n + K), from the average of the K folds' own conformal p-values (Vovk
    and Wang 2020): the folds may have any sizes, and the models may be trained in any way. For folds of one size and a
    training that treats its images alike, but for chance, the bound is also 2 rate + (1 - K/n) / (K + 1), which is
    2 rate when every image is a fold of its own (CV+ and jackknife+; Barber, Candès, Ramdas and Tibshirani 2021,
    theorem 4). The smaller of the two is returned.

    Args:
        rate: alpha, in (0, 1).
        folds: the number of images in each of K folds.

    Returns:
        The bound, at most 1.
    """
    n, K = sum(folds), len(folds)
    bound = 2 * rate + 2 * (1 - rate) * (K - 1) / (n + K)
    if len(set(folds)) == 1:
        bound = min(bound, 2 * rate + (1 - K / n) / (K + 1))
    return min(1.0, bound)
