"""proto"""

from typing import Any, NamedTuple
from collections.abc import Callable
import jax, jax.numpy as jnp
from jaxdescent.stability.complementarity import solve_complementarity, symmetric_basis
from jaxdescent.stability.tracking import track
from jax.flatten_util import ravel_pytree


class FlowState(NamedTuple):
    position: Any
    m: Any
    nu: Any
    age: Any
    vectors: Any


class FlowRecord(NamedTuple):
    loss: Any
    predicted_loss: Any
    eigenvalues: Any
    spread: Any
    variance: Any
    rank: Any
    kkt: Any
    residual: Any
    rounds: Any


def make(flat_loss, opt, k, substeps, through=True, relaxation=None, tol=1e-2, max_rounds=3, p=None):
    p = p or k
    dt = 1 / substeps
    basis_np = symmetric_basis(k)

    def init(w, data, key):
        g = jax.grad(flat_loss)(w, data)
        q = jax.random.normal(key, (w.size, p), w.dtype)
        st = FlowState(w, (1 - opt.b1 ** (1 - dt)) * g, (1 - opt.b2 ** (1 - dt)) * g**2, jnp.asarray(1 - dt, w.dtype), q)
        return st

    def sub(st, data, max_rounds=max_rounds):
        w, m, nu, age, q = st
        basis = jnp.asarray(basis_np, w.dtype)
        lr, T = opt.learning_rate, opt.threshold.astype(w.dtype)
        tau = jnp.maximum(relaxation or 1 / (1 - opt.b1), dt)
        loss, g = jax.value_and_grad(flat_loss)(w, data)
        k1, k2 = 1 - opt.b1**dt, 1 - opt.b2**dt
        m0 = (1 - k1) * m + k1 * g
        nu0 = (1 - k2) * nu + k2 * g**2
        age1 = age + dt
        P0 = opt.preconditioner(nu0, age1)
        r = jax.lax.rsqrt(P0)[:, None]

        def apply(Z):
            hv = lambda v: jax.jvp(lambda x: jax.grad(flat_loss)(x, data), (w,), (v,))[1]
            return r * jax.vmap(hv, 1, 1)(r * Z)

        tr = track(apply, q, tolerance=tol * T, max_rounds=max_rounds)
        lam = tr.values[:k]
        U = r * tr.vectors[:, :k]

        def bilinear(w, Ea):
            def one(u, v):
                return jax.jvp(lambda x: jax.jvp(lambda y: flat_loss(y, data), (x,), (u,))[1], (w,), (v,))[1]
            return one
        ii, jj = jnp.triu_indices(k)
        def gradient(i, j):
            u, v = U[:, i], U[:, j]
            f = lambda x: jax.jvp(lambda x: jax.jvp(lambda y: flat_loss(y, data), (x,), (u,))[1], (x,), (v,))[1]
            return jnp.where(i == j, 1, jnp.sqrt(jnp.asarray(2, w.dtype))) * jax.grad(f)(w)
        G = jax.vmap(gradient)(ii, jj)
        vec = lambda S: jnp.einsum("aij,ij->a", basis, S)
        mat = lambda x: jnp.einsum("a,aij->ij", x, basis)
        eye = jnp.eye(k, dtype=w.dtype)
        Pold = opt.preconditioner(nu, age)
        now = T * (U.T * Pold) @ U - jnp.diag(lam)
        drift = mat(G @ (m0 / P0)) * dt * lr
        A = T * eye - jnp.diag(lam) - (1 - dt / tau) * now + drift
        kk = k1 if through else dt  # share of the force
        B = dt * lr * 0.5 * (k1 if through else 1.0) * (G / P0) @ G.T
        if opt.adaptive:
            Phi = jnp.einsum("aij,ni,nj->na", basis, U, U)
            dP = jax.grad(lambda x: jnp.sum(opt.preconditioner(x, age1)))(nu0)
            dP = jnp.where(nu0 > 0, dP, 0)
            B = B + T**3 * k2 * (Phi.T * (dP * P0**2)) @ Phi
        sol = solve_complementarity(A, B)
        x = vec(sol.X)
        force = 0.5 * G.T @ x
        osc = jnp.maximum(T**2 * P0**2 * jnp.einsum("ni,ij,nj->n", U, sol.X, U), 0)
        mean = g + force
        nu1 = (1 - k2) * nu + k2 * (mean**2 + osc)
        P1 = opt.preconditioner(nu1, age1)
        if through:
            m1 = m0 + k1 * force
            w1 = w - dt * lr * m1 / P1
        else:
            m1 = m0
            bias = (1-opt.b1**age1) if opt.debiased else 1.
            w1 = w - dt * lr * (m1 + bias * force) / P1
        var = jnp.vdot(sol.X, U.T @ U)
        rec = FlowRecord(loss, 0.5 * T * jnp.trace(sol.X), lam / T, jnp.linalg.eigvalsh(sol.X), var, sol.rank, sol.residual, tr.residuals[:k] / T, tr.rounds)
        return FlowState(w1, m1, nu1, age1, tr.vectors), rec, U

    def step(st, data):
        # U at beginning for the projections
        def body(c, _):
            s2, rec, _ = sub(c, data)
            return s2, rec
        s, rec0, U = sub(st, data)
        s, rest = jax.lax.scan(body, s, None, length=substeps - 1)
        recs = jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), rec0, rest)
        mean = jax.tree.map(lambda a: a.mean(0), recs._replace(rank=recs.rank.astype(st.position.dtype), rounds=recs.rounds.astype(st.position.dtype)))
        mean = mean._replace(loss=rec0.loss, eigenvalues=rec0.eigenvalues)
        return s, mean._replace(predicted_loss=rec0.loss + mean.predicted_loss), U
    return init, step
