"""The rule of `jd.self_tuning` in NumPy, written from its docstrings for vectors of few entries."""

import copy

import numpy as np

GROWTH, CALIBRATION, KAPPA, TAU, N0 = 4.0, 6, 2.0, 0.1, 10.0
FLOOR, POWER, LONGEST, JUMP = 60.0, 5.0, 0.01, 10.0
PROBE_EVERY, PROBES, MEMORY = 100, 5, 16


class Spread:
    """Mean and sum of squared distances; a number that is not counted still takes its weight."""

    def __init__(self):
        self.mean, self.squares = 0.0, 0.0

    def add(self, x, count):
        distance = x - self.mean
        self.mean += distance / count
        self.squares += distance * (x - self.mean)

    def deviation(self, count):
        return np.sqrt(self.squares / max(count - 1, 1))


class Trend:
    """Discounted means of a number and its square over max(10, n / 8) steps."""

    def __init__(self):
        self.mean, self.square, self.count = 0.0, 0.0, 0.0

    def add(self, x):
        self.window = max(10.0, self.count / 8)
        self.mean += (x - self.mean) / self.window
        self.square += (x * x - self.square) / self.window
        self.t = self.mean / np.sqrt(self.square) if self.square > 0 else 0.0

    def advance(self, threshold):
        if self.count > FLOOR:
            t = np.clip(-self.t * np.sqrt(self.window) - threshold, 0, 3)
            self.count = max(FLOOR, self.count * np.exp(-0.05 * t))
        self.count += 1


class Rule:
    """Stepwise self-tuning of a momentum or another optimizer with `init(x)` and `step(g, s)`.

    `events` collects the restarts and jumps, as (step, name).
    """

    def __init__(self, x, init, step, rate=1e-9):
        self.init, self.direction = init, step
        self.x, self.y, self.rate, self.state = x.copy(), x.copy(), rate, init(x)
        self.searching, self.returning, self.events, self.t = True, False, [], 0
        self.k, self.total, self.suspected, self.false_alarms = 0, 0.0, False, 0
        self.slope, self.loss, self.log_gradient = Spread(), Spread(), Spread()
        self.moved, self.limit = 0.0, np.inf
        self.first_length = np.linalg.norm(x)
        self.exchanged, self.probe_steps, self.excesses = False, 0, []
        self.begin()
        self.lag.count = -6.0

    def begin(self):
        self.signal, self.lag, self.far = Trend(), Trend(), False
        self.short, self.long = np.zeros_like(self.x), np.zeros_like(self.x)
        self.best, self.num_losses = np.inf, 0

    def update(self, g, value):
        self.t += 1
        if self.exchanged:
            self.excesses.append(value - self.mean)
            self.x, self.y, self.exchanged, self.probe_steps = self.y, self.x, False, 0
            return
        if self.returning:
            self.x, self.returning, self.state = self.y.copy(), False, self.init(self.x)
            return
        s = g @ (self.x - self.y)
        if self.searching:
            self.search(g, value, s)
            return
        self.probe_steps += 1
        due = self.probe_steps > PROBE_EVERY and self.num_losses > 6 and self.lag.count > 0
        if due and not copy.deepcopy(self).diverges(g, value, s):
            self.x, self.y, self.exchanged = self.y, self.x, True
        else:
            self.tune(g, value, s)

    def diverges(self, g, value, s):
        events = len(self.events)
        self.tune(g, value, s)
        return "diverged" in dict(self.events[events:]).values()

    def search(self, g, value, s):
        z, log_g = s / max(self.total, np.finfo(float).tiny), np.log(np.linalg.norm(g) + 1e-30)
        wide = (1 + 4 / max(self.k, 1)) * (1 + 0.5 * self.false_alarms)
        deviation = wide * self.slope.deviation(self.k)
        drop = max(3.0, 6 * self.log_gradient.deviation(self.k))
        suspected = s > 0 and z > self.slope.mean + 4 * deviation
        suspected |= s > 0 and value > self.loss.mean + 6 * wide * self.loss.deviation(self.k)
        suspected |= log_g < self.log_gradient.mean - drop
        extreme = s > 0 and z > self.slope.mean + 30 * deviation + 10 * abs(self.slope.mean)
        suspected, extreme = (self.k >= CALIBRATION and flag for flag in (suspected, extreme))
        far = np.linalg.norm(self.x - self.y) > 10 * self.first_length > 0
        if far or extreme or (suspected and self.suspected):
            self.restart("harm", 1000.0)
            return
        self.false_alarms += self.suspected and not suspected
        self.suspected = suspected
        if not suspected:
            if self.k > 0:
                self.slope.add(z, self.k + 1)
            self.loss.add(value, self.k + 1)
            self.log_gradient.add(log_g, self.k + 1)
            self.rate *= GROWTH
        self.k += 1
        self.total += self.rate
        self.move(g)

    def tune(self, g, value, s):
        far = self.signal.count > 20 and s < -JUMP * np.sqrt(self.signal.square)
        jumped = far and self.far
        if jumped:
            self.events.append((self.t, "jump"))
            n = self.signal.count
            self.begin()
            self.signal.count = n
        self.signal.add(0.0 if far and not jumped else s)
        self.far, n = far, self.signal.count
        change = 0.0
        if n > 0 and self.signal.square > 0:
            won = max(self.first - self.mean, 0) if np.isfinite(self.best) else 0
            harmless = (
                min(3 * self.noise / np.sqrt(self.signal.window), 0.03 * won)
                if np.isinf(self.limit)
                else 0
            )
            t = np.clip((self.signal.mean - harmless) / np.sqrt(self.signal.square), -1, 1)
            change = -KAPPA * (t - TAU) / (n + N0)
            blocked = (
                self.moved > LONGEST * np.linalg.norm(self.x) < LONGEST * 2 * self.first_length
            )
            change = min(change, 0) if blocked else change
        change = min(change, max(self.limit - np.log(self.rate), 0))
        self.rate *= np.exp(change)
        self.limit += 0.5 / (n + N0)
        if self.has_diverged(value, s):
            self.restart("diverged", 3.0)
            return
        self.signal.advance(3.0)
        self.lag.add(g @ (self.short - self.long) if self.lag.count > 0 else 0.0)
        self.lag.advance(-0.5)
        weight = (POWER + 1) / (self.lag.count + POWER) if self.lag.count > 0 else 0.0
        self.short += min(1, 2 * weight) * (self.x - self.short)
        self.long += weight * (self.x - self.long)
        self.y = self.y + weight * (self.x - self.y)
        self.move(g)

    def probe_t(self):
        """Returns the t-value of the last excesses, weighted as in a discounted mean."""
        if len(self.excesses) < PROBES:
            return 0.0
        mean = square = 0.0
        for k, excess in enumerate(self.excesses, 1):
            mean += (excess - mean) / min(k, MEMORY)
            square += (excess**2 - square) / min(k, MEMORY)
        n = min(len(self.excesses), MEMORY)
        return mean / np.sqrt((square - mean**2) / (n - 1))

    def has_diverged(self, value, s):
        if self.num_losses == 0:
            self.first, self.mean, self.noise = value, value, 0.0
        self.num_losses += 1
        weight = 1 / min(self.num_losses, 10)
        distance = abs(value - self.mean)
        self.mean += weight * (value - self.mean)
        self.noise += weight * (distance - self.noise)
        if self.num_losses >= 6 and self.mean < self.best:
            self.best, self.best_noise = self.mean, self.noise
        rise = self.mean - self.best
        won = max(self.first - self.best, 0)
        return self.num_losses > 6 and rise > won / 2 + 2 * self.best_noise and s > rise / 2

    def restart(self, name, divisor):
        self.events.append((self.t, name))
        if name == "harm":
            self.searching = False
            self.rate /= divisor
        else:
            self.rate = self.last_rate / divisor
            self.limit = np.log(self.last_rate / 2)
        self.x, self.returning = self.y.copy(), True
        self.probe_steps, self.excesses = 0, []
        self.begin()
        self.lag.count = -6.0

    def move(self, g):
        self.last_rate = self.rate
        d, self.state = self.direction(g, self.state)
        self.moved = np.linalg.norm(self.rate * d)
        self.x = self.x + self.rate * d


def momentum():
    """Gradient descent with momentum 0.9, as (init, step)."""

    def step(g, m):
        m = g + 0.9 * m
        return -m, m

    return np.zeros_like, step


def adam():
    """Adam with optax's defaults, as (init, step)."""

    def init(x):
        return 0, np.zeros_like(x), np.zeros_like(x)

    def step(g, state):
        t, m, v = state[0] + 1, 0.9 * state[1] + 0.1 * g, 0.999 * state[2] + 0.001 * g * g
        return -(m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8), (t, m, v)

    return init, step
