"""Self-scaled Broyden with a line search, as its papers have it: on SciPy's strong Wolfe search.

Kiyani et al. (2025) put the update into SciPy's BFGS; this is that, in NumPy: the update by its
formula, `scipy.optimize.line_search` with c1 = 1e-4 and c2 = 0.9, the first step 1/‖g‖ long.
"""

import numpy as np
import scipy.optimize


def minimize(value_and_grad, x0):
    """Minimizes until the search fails along the gradient, or `value_and_grad` raises."""
    known = {}

    def evaluate(x):
        key = x.tobytes()
        if key not in known:
            known[key] = value_and_grad(x)
        return known[key]

    x = np.asarray(x0, float)
    f, g = evaluate(x)
    H, previous = None, f + np.linalg.norm(g) / 2
    while np.any(g):
        d = -g if H is None else -(H @ g)
        if not d @ g < 0:
            H, d = None, -g
        t, *_ = scipy.optimize.line_search(
            lambda x: evaluate(x)[0], lambda x: evaluate(x)[1], x, d, g, f, previous,
            c1=1e-4, c2=0.9, maxiter=25,
        )  # fmt: skip
        if t is None:
            if H is None:
                return
            H = None  # once more from the gradient
            continue
        s = t * d
        previous, (f, new) = f, evaluate(x + t * d)
        y, x, sBs = new - g, x + s, -t * (s @ g)
        known, g = {x.tobytes(): (f, new)}, new
        H = _update(H, s, y, sBs, len(x))


def _update(H, s, y, sBs, n):
    sy = s @ y
    if sy <= 1e-14 * np.linalg.norm(s) * np.linalg.norm(y):
        return H
    if H is None:
        H, sBs = sy / (y @ y) * np.eye(n), s @ s * (y @ y) / sy
    Hy = H @ y
    yHy = y @ Hy
    b, h = sBs / sy, yHy / sy
    a = max(b * h - 1, 1e-16)
    c = (a / (1 + a)) ** 0.5
    rho = min(1.0, h * (1 - c))
    theta = max((rho - 1) / a, min(1 / rho, (1 - b) / b))
    sigma = 1 + theta * a
    phi, power = (1 - theta) / (1 + a * theta), sigma ** (1 / (1 - n))
    scale = min(1, 1 / b)
    tau = scale * min(power, 1 / theta) if theta > 0 else min(scale * power, sigma)
    v = s / sy - Hy / yHy
    H -= np.outer(Hy / yHy, Hy)
    H += np.outer(phi * yHy * v, v)
    H /= tau
    H += np.outer(s / sy, s)
    return H
