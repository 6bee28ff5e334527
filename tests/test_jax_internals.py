"""The names that the package uses of JAX outside of its stable API exist, and are in one file."""

import importlib
import re
import sys
from pathlib import Path

import jax
import jax.extend.core
import jax.interpreters.partial_eval
import jax.numpy as jnp
import pytest

import jaxdescent
from jaxdescent import jax_internals
from jaxdescent.towers.fused import elementwise
from jaxdescent.towers.replay import dataflow, safe_derivatives

PACKAGE = Path(jaxdescent.__file__).parent
INTERNAL = r"jax\.(extend|_src|interpreters)\b|from jax import .*\b(extend|interpreters)\b"


def test_the_installed_jax_has_every_name():
    assert jax_internals.missing_names() == []


def test_no_other_file_uses_these_parts_of_jax():
    experiments = PACKAGE.parent / "experiments"
    files = [*PACKAGE.rglob("*.py"), *experiments.rglob("*.py")]
    found = {path.name for path in files if re.search(INTERNAL, path.read_text())}
    assert found == {"jax_internals.py"}


def test_names_that_are_gone_are_listed(monkeypatch):
    monkeypatch.delattr(jax.extend.core, "subjaxprs")
    monkeypatch.delattr(jax.extend.core.JaxprEqn, "ctx")
    monkeypatch.delattr(jax.interpreters.partial_eval, "dce_jaxpr")
    assert jax_internals.missing_names() == [
        "jax.extend.core.subjaxprs",
        "jax.interpreters.partial_eval.dce_jaxpr",
        "jax.extend.core.JaxprEqn.ctx",
    ]


def test_the_import_fails_with_all_names_that_are_gone(monkeypatch):
    monkeypatch.delattr(jax.extend.core, "Var")
    monkeypatch.setitem(sys.modules, "jax.interpreters.partial_eval", None)
    monkeypatch.delitem(sys.modules, jax_internals.__name__)
    gone = r"must provide jax\.extend\.core\.Var, jax\.interpreters\.partial_eval, .*, got jax \d"
    with pytest.raises(ImportError, match=gone):
        importlib.import_module(jax_internals.__name__)


@pytest.mark.parametrize(
    ("name", "fn"),
    [
        ("jit", jax.jit(jnp.sin)),
        ("cond", lambda x: jax.lax.cond(x > 0, jnp.sin, jnp.cos, x)),
        ("while", lambda x: jax.lax.while_loop(lambda x: x < 3, lambda x: x + 1, x)),
        ("remat2", jax.checkpoint(jnp.sin)),
        ("custom_jvp_call", jax.nn.relu),
        ("custom_vjp_call", jax.custom_vjp(jnp.sin)),
    ],
)
def test_primitives_that_hold_programs_have_the_names_that_towers_look_for(name, fn):
    if name == "custom_vjp_call":
        fn.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (g * jnp.cos(x),))
    program = jax.make_jaxpr(fn)(1.0)
    assert dataflow.holds(program, name)
    if name in dataflow._CALLS:
        assert not dataflow.holds(dataflow.inlined(program), name)
    if name == "cond":
        (eqn,) = (eqn for eqn in program.jaxpr.eqns if eqn.primitive.name == name)
        assert len(eqn.params["branches"]) == 2


def test_elementwise_primitives_have_the_names_that_towers_look_for():
    public = vars(jax.extend.core.primitives)
    names = {p.name for key, p in public.items() if key.endswith("_p")}
    looked_for = elementwise._ELEMENTWISE | {*safe_derivatives._SINGULAR}
    assert looked_for <= names
