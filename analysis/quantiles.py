"""Student's t distribution, by the regularised incomplete beta function."""

from functools import lru_cache
from itertools import count
from math import exp, inf, lgamma, log, log1p, pi
from statistics import NormalDist


def student_p_value(t: float, degrees: float) -> float:
    """Two-sided p-value, `P(|T| >= |t|) = I_x(degrees / 2, 1 / 2)`, `x = degrees / (degrees + t²)`.

    Args:
        degrees: of freedom; need not be whole.
    """
    return _incomplete_beta(degrees / (degrees + t * t), degrees / 2, 0.5)


@lru_cache(maxsize=1024)
def student_quantile(probability: float, degrees: float) -> float:
    """The t below which a share `probability` of the distribution lies, by Newton's method.

    It begins at the normal's quantile, left of t. The distribution is concave there, so that no
    step passes t.
    """
    if probability < 0.5:
        return -student_quantile(1 - probability, degrees)
    half = (degrees + 1) / 2
    log_height = lgamma(half) - lgamma(degrees / 2) - log(pi * degrees) / 2
    t, step = NormalDist().inv_cdf(probability), inf
    while step > 1e-12 * max(1, t):
        density = exp(log_height - half * log1p(t * t / degrees))
        step = (student_p_value(t, degrees) / 2 - (1 - probability)) / density
        t += step
    return t


def _incomplete_beta(x: float, a: float, b: float) -> float:
    """I_x(a, b), by Lentz's method for its continued fraction.

    Source: https://dlmf.nist.gov/8.17#v, eq. 8.17.22; Press et al. (2007), section 6.4.
    """
    if not 0 < x < 1:
        return x  # I_0 = 0 and I_1 = 1
    if x > (a + 1) / (a + b + 2):  # where it converges slowly, by symmetry
        return 1 - _incomplete_beta(1 - x, b, a)
    factor = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log(1 - x)) / a
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1))
    fraction = d
    for m in count(1):
        n = a + 2 * m
        for term in (m * (b - m) * x / ((n - 1) * n), -(a + m) * (a + b + m) * x / (n * (n + 1))):
            c, d = 1 + term / c, 1 / (1 + term * d)
            fraction *= c * d
        if abs(c * d - 1) < 1e-14:
            break
    return factor * fraction
