"""Every generated problem of the registry fits the protocol, and the registry has every kind."""

import jax
import jax.numpy as jnp
import pytest

from experiments.tuning import workloads
from experiments.tuning.generated import Generated, Moment

GENERATED = [name for name, each in workloads.WORKLOADS.items() if isinstance(each, Generated)]
MOMENT = Moment(jnp.int32(5), jnp.float32(0.5))


@pytest.mark.parametrize("name", GENERATED)
def test_a_problem_has_a_scalar_loss_and_score_and_keeps_the_shape_of_its_environment(name):
    problem = workloads.WORKLOADS[name].problem()

    def observe_and_measure(key):
        params, env = problem.init(key), problem.start_env(key)
        batch, after = problem.observe(params, env, key, MOMENT)
        return params, env, after, problem.loss(params, batch), problem.score(params, MOMENT)

    params, env, after, loss, score = jax.eval_shape(observe_and_measure, jax.random.key(0))
    assert env == after
    assert loss == score == jax.ShapeDtypeStruct((), jnp.float32)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))


def test_at_least_ten_tasks_need_no_data_files_and_each_group_has_every_kind():
    from experiments import data

    free = [
        name
        for name, each in workloads.WORKLOADS.items()
        if name in GENERATED or not data.entry(each.data).needs_files
    ]
    assert len(free) >= 10
    assert len(workloads.WORKLOADS) >= 16
    groups = {(each.group, each.kind) for each in workloads.WORKLOADS.values()}
    assert len(groups) == 4
    assert {each.development for each in workloads.WORKLOADS.values() if each.deterministic} == {
        True,
        False,
    }
