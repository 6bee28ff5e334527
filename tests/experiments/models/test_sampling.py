"""Sampling with a cache equals a loop without a cache."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments.models import sampling
from experiments.models.sampling import draw, sample
from experiments.models.transformer import Transformer
from tests.experiments.models import zoo

PROMPT = zoo.TOKENS[:, :4]
KEY = jax.random.key(0)
LOGITS = jnp.array([0.5, -1.0, 2.0, 1.0, -3.0])

text_models = pytest.mark.parametrize("name", ["learned positions", "rotary positions", "lstm"])


@text_models
def test_tokens_equal_a_loop_without_a_cache(name):
    """Each row has its own keys, from its index and the step."""
    split = zoo.built(name)
    choices = {"temperature": 1.5, "top_k": 5}
    found = sample(split.merge(), PROMPT, length=8, key=KEY, **choices)

    @jax.jit
    def naive(tokens, step):
        rows = jax.vmap(partial(jax.random.fold_in, KEY))(jnp.arange(3))
        keys = jax.vmap(partial(jax.random.fold_in, data=step))(rows)
        logits = zoo.forward(*split, tokens)[0][:, step + 3]
        return (
            jnp.asarray(tokens)
            .at[:, step + 4]
            .set(jax.vmap(partial(draw, **choices))(keys, logits))
        )

    tokens = np.pad(PROMPT, ((0, 0), (0, 8)))
    for step in range(8):
        tokens = naive(tokens, step)
    np.testing.assert_array_equal(found, tokens)
    assert found.dtype == PROMPT.dtype


@text_models
def test_keys_determine_the_draws_and_rows_are_independent(name):
    model = zoo.built(name).merge()
    draws = partial(sample, model, length=8, temperature=1.5, top_k=5)
    first, again, other = (draws(PROMPT, key=jax.random.key(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.any(first != other)
    changed = draws(np.where(np.arange(3)[:, None], 7, PROMPT), key=KEY)
    np.testing.assert_array_equal(changed[:1], first[:1])
    twins = draws(PROMPT[[0, 0, 0]], key=KEY)
    assert len({tuple(row) for row in twins.tolist()}) == 3


def test_a_single_row_gives_the_same_draws():
    draws = partial(sample, zoo.built("learned positions").merge(), length=8, key=KEY, top_k=5)
    np.testing.assert_array_equal(draws(PROMPT[:1]), draws(PROMPT)[:1])


def test_one_program_is_compiled_for_all_temperatures_keys_and_weights():
    sizes = set()
    for seed, temperature in [(0, 1.0), (1, 0.5), (0, 0.0), (0, 2)]:
        model, key = zoo.built("learned positions", seed=seed).merge(), jax.random.key(seed)
        sample(model, PROMPT, length=8, key=key, temperature=temperature, top_k=5)
        sizes.add(sampling._sample._cache_size())
    assert len(sizes) == 1


def test_temperature_zero_takes_the_most_likely_token():
    split = zoo.built("learned positions")
    found = sample(split.merge(), PROMPT, length=8, key=KEY, temperature=0.0, top_k=5)
    likeliest = zoo.output(split, found)[:, 3:-1].argmax(-1)
    np.testing.assert_array_equal(found[:, 4:], likeliest)
    assert len(np.unique(likeliest)) > 2


def drawn(number=4000, **given):
    keys = jax.random.split(KEY, number)
    return np.asarray(jax.jit(jax.vmap(lambda key: draw(key, LOGITS, **given)))(keys))


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_draws_follow_the_softmax_at_the_temperature(temperature):
    expected = np.exp(np.asarray(LOGITS, np.float64) / temperature)
    expected /= expected.sum()
    share = np.bincount(drawn(temperature=temperature), minlength=5) / 4000
    assert np.all(np.abs(share - expected) < 4 * np.sqrt(expected * (1 - expected) / 4000))


@pytest.mark.parametrize(("top_k", "among"), [(1, {2}), (3, {0, 2, 3}), (9, set(range(5)))])
def test_top_k_samples_from_the_k_most_likely(top_k, among):
    assert set(drawn(temperature=3.0, top_k=top_k)) == among


@pytest.mark.parametrize("temperature", [0.0, 1e-37])
@pytest.mark.parametrize("logits", [LOGITS, LOGITS - 100])
def test_tiny_temperatures_are_finite(temperature, logits):
    assert jax.jit(draw)(KEY, logits, temperature=temperature) == 2


@pytest.mark.parametrize("name", ["transformer", "lstm"])
def test_dropout_is_off_and_the_mode_of_the_model_is_kept(name):
    """The program equals the program of a model without dropout."""
    programs = []
    for dropout in (0.0, 0.5):
        model = zoo.build(zoo.DROPOUT[name][0], dropout=dropout).merge()
        model.train()
        program = jax.make_jaxpr(lambda key, model=model: sample(model, PROMPT, length=3, key=key))
        programs.append(str(program(KEY)))
        assert model.dropout.active == (dropout > 0)
    assert programs[0] == programs[1]


def test_the_context_can_be_filled_exactly():
    def shape(name, length):
        model = zoo.built(name).merge()
        return jax.eval_shape(lambda: sample(model, PROMPT, length=length, key=KEY)).shape

    assert shape("learned positions", 8) == (3, 12)
    message = r"prompt and length must add up to at most 12, the model's context, got 4 \+ 9"
    with pytest.raises(ValueError, match=message):
        shape("learned positions", 9)
    assert shape("lstm", 20) == (3, 24)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"prompt": jnp.zeros(4, int)}, r"prompt must be integers of shape \[batch, p\].*\[4\]"),
        ({"prompt": jnp.zeros((2, 0), int)}, r"prompt must be integers.*\[2, 0\]"),
        ({"prompt": jnp.zeros((2, 3))}, r"prompt must be integers.*float32\[2, 3\]"),
        ({"length": 0}, r"length must be in \[1, inf\), got 0"),
        ({"temperature": -0.5}, r"temperature must be in \[0, inf\), got -0\.5"),
        ({"temperature": float("nan")}, r"temperature must be finite, got nan"),
        ({"top_k": 0}, r"top_k must be in \[1, inf\), got 0"),
    ],
)
def test_bad_arguments_raise(given, message):
    model = nnx.eval_shape(lambda: Transformer(zoo.CONFIG, rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match=message):
        sample(model, **{"prompt": PROMPT, "length": 3, "key": KEY, **given})
