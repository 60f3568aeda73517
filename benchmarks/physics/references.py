"""Solutions to compare with: by quadrature, Fourier series, and finite differences; in NumPy."""

import functools

import numpy as np
import scipy.sparse
import scipy.sparse.linalg

PI = np.pi


def grid(low, high, num=101):
    """The points of a grid, shape `(num², 2)`."""
    axes = [np.linspace(a, b, num) for a, b in zip(low, high, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)


@functools.cache
def burgers(viscosity=0.01 / PI):
    """By the transformation of Cole and Hopf, and Gauss-Hermite quadrature."""
    points = grid((0.01, -1.0), (1.0, 1.0))
    nodes, weights = np.polynomial.hermite.hermgauss(200)
    t, x = points[:, :1], points[:, 1:]
    y = x - np.sqrt(4 * viscosity * t) * nodes
    log_f = -np.cos(PI * y) / (2 * PI * viscosity)
    f = weights * np.exp(log_f - log_f.max(1, keepdims=True))
    return points, -np.sum(f * np.sin(PI * y), 1) / np.sum(f, 1)


def periodic(u0, linear, nonlinear, num=512, steps=4000):
    """U on [-1, 1] × [0, 1] by a Fourier series and the integrating factor, classical Runge-Kutta.

    Args:
      u0: the initial values, a function of x.
      linear: the symbol of the linear part, a function of the wave number.
      nonlinear: the rest, from u and its wave numbers to a Fourier series.
      num: points in x.
      steps: steps in t.
    """
    x = -1 + 2 * np.arange(num) / num
    k = PI * np.fft.fftfreq(num, 1 / num)
    half = np.exp(linear(k) / steps / 2)
    kept = np.abs(np.fft.fftfreq(num, 1 / num)) < num / 3
    h, v, out = 1 / steps, np.fft.fft(u0(x)), []

    def n(v):
        return kept * nonlinear(np.real(np.fft.ifft(v)), k)

    for i in range(steps + 1):
        if i % (steps // 100) == 0:
            out.append(np.real(np.fft.ifft(v)))
        a = h * n(v)
        b = h * n(half * (v + a / 2))
        c = h * n(half * v + b / 2)
        d = h * n(half**2 * v + half * c)
        v = half**2 * v + (half**2 * a + 2 * half * (b + c) + d) / 6
    t, x = np.meshgrid(np.linspace(0, 1, 101), x[::4], indexing="ij")
    return np.stack([t.ravel(), x.ravel()], axis=1), np.stack(out)[:, ::4].ravel()


@functools.cache
def allen_cahn(num=512, steps=4000):
    """∂u/∂t = 1e-4 ∂²u/∂x² + 5 (u - u³)."""
    return periodic(
        lambda x: x**2 * np.cos(PI * x),
        lambda k: -1e-4 * k**2,
        lambda u, k: np.fft.fft(5 * (u - u**3)),
        num,
        steps,
    )


@functools.cache
def korteweg_de_vries(num=512, steps=4000):
    """∂u/∂t + u ∂u/∂x + 0.0025 ∂³u/∂x³ = 0."""
    return periodic(
        lambda x: np.cos(PI * x),
        lambda k: 0.0025j * k**3,
        lambda u, k: -0.5j * k * np.fft.fft(u**2),
        num,
        steps,
    )


@functools.cache
def cavity(num=101, reynolds=100.0):
    """The stream function on a grid, by central differences of second order and Newton's method."""
    h = 1 / (num - 1)
    n = num * num
    index = np.arange(n).reshape(num, num)  # [i, j] at x = i h, y = j h
    edge = np.zeros((num, num), bool)
    edge[[0, -1], :] = edge[:, [0, -1]] = True
    free = index[~edge]
    ones = np.ones(len(free))

    def shift(di, dj):
        ij = np.argwhere(~edge) + np.array([di, dj])
        return scipy.sparse.coo_array((ones, (free, index[ij[:, 0], ij[:, 1]])), (n, n)).tocsr()

    east, west, north, south = shift(1, 0), shift(-1, 0), shift(0, 1), shift(0, -1)
    here = shift(0, 0)
    laplace = (east + west + north + south - 4 * here) / h**2
    dx, dy = (east - west) / (2 * h), (north - south) / (2 * h)
    wall = scipy.sparse.diags_array(edge.ravel().astype(float)).tocsr()
    # Thom's formula for the vorticity at a wall: -2 (ψ of the neighbour inside + h speed) / h².
    x = np.linspace(0, 1, num)
    speed, neighbour = np.zeros((num, num)), index.copy()
    neighbour[0, :], neighbour[-1, :] = index[1, :], index[-2, :]
    neighbour[:, 0], neighbour[:, -1] = index[:, 1], index[:, -2]
    speed[:, -1] = 16 * x**2 * (1 - x) ** 2
    walls = index[edge]
    inner = scipy.sparse.coo_array((np.ones(len(walls)), (walls, neighbour[edge])), (n, n)).tocsr()
    psi, omega = np.zeros(n), np.zeros(n)
    diag = scipy.sparse.diags_array
    for _ in range(30):
        transport = (
            (dy @ psi) * (dx @ omega) - (dx @ psi) * (dy @ omega) - laplace @ omega / reynolds
        )
        at_wall = wall @ omega + 2 / h**2 * (inner @ psi + h * wall @ speed.ravel())
        residual = np.concatenate([laplace @ psi + here @ omega + wall @ psi, transport + at_wall])
        jacobian = scipy.sparse.block_array(
            [
                [laplace + wall, here],
                [
                    diag(dx @ omega) @ dy - diag(dy @ omega) @ dx + 2 / h**2 * inner,
                    diag(dy @ psi) @ dx - diag(dx @ psi) @ dy - laplace / reynolds + wall,
                ],
            ]
        )
        step = scipy.sparse.linalg.spsolve(jacobian.tocsc(), residual)
        psi, omega = psi - step[:n], omega - step[n:]
        if np.abs(step).max() < 1e-10:
            break
    else:
        raise RuntimeError("Newton's method for the cavity did not converge: refine its start.")
    return grid((0, 0), (1, 1), num), psi
