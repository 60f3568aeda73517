"""Slow and plain: what the package is compared with. NumPy alone, written from the paper."""

import numpy as np


def dense_inverse_hessian(pairs: list[tuple[np.ndarray, np.ndarray]], n: int) -> np.ndarray:
    """H after BFGS updates by the usable pairs, oldest first, from γI of the newest pair of all."""
    gamma = 1.0
    if pairs:
        s, y = pairs[-1]
        gamma = abs(s @ y) / (y @ y) if y @ y > 0 else 1.0
    H, eye = gamma * np.eye(n), np.eye(n)
    for s, y in pairs:
        if s @ y <= 0:
            continue
        rho = 1.0 / (s @ y)
        V = eye - rho * np.outer(y, s)
        H = V.T @ H @ V + rho * np.outer(s, s)
    return H


def two_loop(pairs: list[tuple[np.ndarray, np.ndarray]], g: np.ndarray) -> np.ndarray:
    """Algorithm 1 of the paper, line by line."""
    gamma = 1.0
    if pairs:
        s, y = pairs[-1]
        gamma = abs(s @ y) / (y @ y) if y @ y > 0 else 1.0
    q, alphas = g.copy(), {}
    for i in reversed(range(len(pairs))):
        s, y = pairs[i]
        if s @ y > 0:
            alphas[i] = (s @ q) / (s @ y)
            q = q - alphas[i] * y
    r = gamma * q
    for i in range(len(pairs)):
        s, y = pairs[i]
        if s @ y > 0:
            r = r + s * (alphas[i] - (y @ r) / (s @ y))
    return -r


def log_step(theta: dict, V: np.ndarray, tau_min: float, tau_max: float) -> float:
    """τ of the paper's policy, V = [d g s y] as columns."""
    X = V.T @ V
    X[np.triu_indices(4, 1)] *= -1
    u0 = np.log(np.maximum(X, 1e-8)).ravel()
    u1 = u0 @ theta["linear1"]["kernel"] + theta["linear1"]["bias"]
    u2 = u0 @ theta["linear2"]["kernel"] + theta["linear2"]["bias"]
    return float(np.clip(u1 @ u2 / (u2 @ u2), tau_min, tau_max))


def unroll(
    value_and_grad, theta: dict, x0: np.ndarray, steps: int, m: int, frozen=None, limits=(-3.0, 0.0)
):
    """L-BFGS-π by plain loops; the iterates x_0..x_K, and the values and gradients there.

    With `frozen`, the gradients of another unroll, these enter the direction, y and the policy in
    place of the true ones: the inner gradients as external inputs.
    """
    x, pairs = x0.astype(float), []
    s = y = np.zeros_like(x)
    xs, fs, gs = [x], [], []
    f, g = value_and_grad(x)
    fs.append(f)
    gs.append(g)
    for k in range(steps):
        g = gs[k] if frozen is None else frozen[k]
        d = two_loop(pairs, g)
        t = np.exp(log_step(theta, np.stack([d, g, s, y], axis=1), *limits))
        s = t * d
        x = x + s
        f_next, g_next = value_and_grad(x)
        y = (g_next if frozen is None else frozen[k + 1]) - g
        pairs = [*pairs, (s, y)][-m:]
        xs.append(x)
        fs.append(f_next)
        gs.append(g_next)
    return np.array(xs), np.array(fs), np.array(gs)


def rosenbrock(x):
    """The generalized Rosenbrock function; works on NumPy and JAX arrays."""
    return (100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2).sum()
