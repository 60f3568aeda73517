"""Slow and plain: what the package is compared with. NumPy alone, written from the paper."""

import numpy as np


def dense_inverse_hessian(
    pairs: list[tuple[np.ndarray, np.ndarray]], n: int, omegas: list[float] | None = None
) -> np.ndarray:
    """H after BFGS updates by the usable pairs, oldest first, from γI of the newest pair of all.

    With `omegas` the secant equations are H y = ω s.
    """
    gamma = 1.0
    if pairs:
        s, y = pairs[-1]
        gamma = abs(s @ y) / (y @ y) if y @ y > 0 else 1.0
    H, eye = gamma * np.eye(n), np.eye(n)
    for (s, y), omega in zip(pairs, omegas or [1.0] * len(pairs), strict=True):
        if s @ y <= 0:
            continue
        rho = 1.0 / (s @ y)
        V = eye - rho * np.outer(y, s)
        H = V.T @ H @ V + omega * rho * np.outer(s, s)
    return H


def curvature_ratio(rise: float, start_slope: float, end_slope: float) -> float:
    """Of c(t), the cubic through both slopes with c(1) - c(0) = rise: mean c'' over its last."""
    cubic = np.linalg.solve([[1, 1, 1], [0, 0, 1], [3, 2, 1]], [rise, start_slope, end_slope])
    end = 6 * cubic[0] + 2 * cubic[1]
    ratio = (end_slope - start_slope) / end if end > 0 else 1e3
    return float(np.clip(ratio, 1e-3, 1e3))


def omega(rise: float, start_slope: float, end_slope: float, power: float) -> float:
    """The rule's."""
    return float(np.clip(curvature_ratio(rise, start_slope, end_slope) ** power, 0.1, 2.0))


def two_loop(
    pairs: list[tuple[np.ndarray, np.ndarray]], g: np.ndarray, gamma: float | None = None
) -> np.ndarray:
    """Algorithm 1 of the paper, line by line; with its γ unless another is given."""
    if gamma is None and not pairs:
        gamma = 1.0
    if gamma is None:
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


def self_scaled(name, b, h, n):
    """τ and φ in plain Python, as the papers write them."""
    if name == "bfgs":
        return 1.0, 1.0
    if name == "self-scaled-bfgs":
        return min(1.0, 1.0 / b), 1.0
    a = b * h - 1.0
    c = (a / (1.0 + a)) ** 0.5
    rho_minus = min(1.0, h * (1.0 - c))
    theta_minus = (rho_minus - 1.0) / a
    theta_plus = 1.0 / rho_minus
    theta = max(theta_minus, min(theta_plus, (1.0 - b) / b))
    sigma = 1.0 + theta * a
    power = sigma ** (1.0 / (1.0 - n))
    if theta > 0:
        tau = min(1.0, 1.0 / b) * min(power, 1.0 / theta)
    else:
        tau = min(min(1.0, 1.0 / b) * power, sigma)
    return tau, (1.0 - theta) / (1.0 + a * theta)


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


def cubic_minimum(f0, f1, slope0, slope1):
    """The minimum in t of the cubic with these values and slopes at t = 0 and 1, by its roots."""
    a = slope0 + slope1 - 2 * (f1 - f0)
    b = 3 * (f1 - f0) - 2 * slope0 - slope1
    roots = np.roots([3 * a, 2 * b, slope0])
    bends = 6 * a * roots + 2 * b
    return float(np.real(roots[np.argmax(np.real(bends))]))


def direction(pairs, gamma, g, omegas):
    """-H g by the two-loop recursion, from γ I, where H y = ω s of each pair when it came in."""
    q, alphas = g.copy(), []
    for s, y in reversed(pairs):
        alphas.append((s @ q) / (s @ y))
        q = q - alphas[-1] * y
    r = gamma * q
    for (s, y), alpha, omega in zip(pairs, reversed(alphas), omegas, strict=True):
        r = r + s * (omega * alpha - (y @ r) / (s @ y))
    return -r


def safeguarded(value_and_grad, x0, num_evals, m, with_value=True):
    """L-BFGS with the rule and the guard, by plain loops, from its description.

    Returns the points at which f was evaluated, and which of them were accepted.
    """
    x, pairs, omegas, values, cap, last = np.array(x0, float), [], [], [], 10.0, 0.0
    trial, t, s, rejected = x, 0.0, None, 0
    points, accepted = [], []
    for _ in range(num_evals):
        f_new, g_new = value_and_grad(trial)
        points.append(trial)
        good = np.isfinite(f_new) and np.all(np.isfinite(g_new))
        if s is not None:
            slope0, slope1 = g @ s, g_new @ s
            smooth = slope1 <= abs(slope0)
            if with_value:
                rounding = 10 * np.finfo(float).eps * abs(values[-1])
                decrease = 0.2 if len(values) == 1 else 1e-4
                low = f_new <= max(values[-5:]) + decrease * min(slope0, 0)
                good = good and (low or (smooth and abs(f_new - values[-1]) <= rounding))
            else:
                good = good and smooth
        accepted.append(bool(good))
        if not good:
            least = 1e-3 if len(values) == 1 else 0.1
            share = least
            if np.isfinite(f_new) and np.all(np.isfinite(g_new)):
                if with_value:
                    share = cubic_minimum(values[-1], f_new, slope0, slope1)
                else:
                    share = slope0 / (slope0 - slope1)
            share = min(max(share, least), 0.5)
            s, t, rejected = share * (trial - x), share * t, rejected + 1
            trial = x + s
            continue
        r = 0.0
        if s is not None:
            y = g_new - g
            r = slope1 / slope0
            if s @ y > 1e-10 * np.linalg.norm(s) * np.linalg.norm(y):
                pairs = [*pairs, (s, y)][-m:]
                known = with_value and s @ y > 1e4 * np.finfo(float).eps * abs(f_new)
                new = omega(f_new - values[-1], slope0, slope1, 0.5) if known else 1.0
                omegas = [*omegas, new][-m:]
            factor = 1.3 if r > -0.2 else 0.5 if r < -0.5 else 1.0
            if rejected:
                factor = 0.25**rejected
            cap = max(cap * factor, 1.0)
            last = np.linalg.norm(s)
        x, f, g = trial, f_new, g_new
        values.append(f)
        gamma = 1.0
        if pairs:
            s, y = pairs[-1]
            short, long = (s @ y) / (y @ y), (s @ s) / (s @ y)
            gamma = min(long, cap * short)
        d = direction(pairs, gamma, g, omegas)
        if len(values) == 1:
            t = 2 * abs(f) / -(g @ d) if with_value else 1 / np.linalg.norm(d)
        else:
            t = 1 / max(1 - r, 0.25) if r > 0.9 else 1.0
            fall = values[-2] - values[-1]
            if rejected and with_value and fall > 10 * np.finfo(float).eps * abs(values[-1]):
                t = min(t, 2.02 * fall / -(g @ d))
            t = min(t, 10 * last / np.linalg.norm(d))
        s, rejected = t * d, 0
        trial = x + s
    return np.array(points), np.array(accepted)


def rosenbrock(x):
    """The generalized Rosenbrock function; works on NumPy and JAX arrays."""
    return (100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2).sum()
