"""A control whose returns can be forecast: an autoregression of known skill.

    r_t = phi r_{t-1} + e_t        e_t normal        p_t = p_{t-1} + r_t

A study that finds no skill on market prices has shown something only if it finds skill where there
is some. Given r_t, the best forecast of the return over h days is c_h r_t, which explains a known
share of its variance:

    c_h     = phi (1 - phi^h) / (1 - phi)
    skill_h = c_h^2 / sum_{|k| < h} (h - |k|) phi^|k|
"""

from pathlib import Path

import numpy as np

from experiments.data import Series

PHI = 0.5
DAILY = 0.01
"""Autoregression and standard deviation of the control's daily returns."""


def control(rows: int = 2_000, seed: int = 0) -> Series:
    """Returns a series of prices whose daily log returns are an autoregression, f32[rows, 1].

    Example:
      >>> series = control(1_000)
      >>> returns = np.diff(np.log(series.values[:, 0]))
      >>> bool(abs(np.corrcoef(returns[1:], returns[:-1])[0, 1] - PHI) < 0.1)
      True
    """
    rng = np.random.default_rng(seed)
    shocks = DAILY * rng.normal(size=rows)
    returns = np.zeros(rows)
    returns[0] = shocks[0]
    for t in range(1, rows):
        returns[t] = PHI * returns[t - 1] + (1 - PHI**2) ** 0.5 * shocks[t]
    values = 100 * np.exp(returns.cumsum())[:, None]
    times = np.datetime64("2000-01-01") + np.arange(rows)
    return Series(
        "control", values.astype(np.float32), ("Close",), times, Path("control"), "drawn at random"
    )


def best_skill(horizon: int) -> float:
    """Returns the skill of the best forecast of the control, as a share of the naive loss.

    Example:
      >>> best_skill(1), round(best_skill(5), 4)
      (0.25, 0.0844)
    """
    slope = PHI * (1 - PHI**horizon) / (1 - PHI)
    lags = np.arange(1 - horizon, horizon)
    return float(slope**2 / ((horizon - abs(lags)) * PHI ** abs(lags)).sum())
