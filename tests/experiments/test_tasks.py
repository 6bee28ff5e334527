"""Tasks make the batches and scores that NumPy gives, and reject models that do not fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments import data, tasks
from experiments.data import DataError, Dataset, Split
from experiments.models.counting import parameter_count
from experiments.tasks import ModelConfig

RNG = np.random.default_rng(0)


def dataset(classes, *shape, examples=12):
    """Returns small random data in three parts, with inputs of the given shape."""

    def part(count):
        inputs = RNG.normal(3.0, 2.0, (count, *shape)).astype(np.float32)
        if classes:
            return Split(inputs, RNG.integers(classes, size=count).astype(np.int32))
        return Split(inputs, RNG.normal(5.0, 3.0, (count, 1)).astype(np.float32))

    parts = part(examples), part(5), part(4)
    return Dataset.from_parts("made up", parts, classes, "drawn at random")


def model_config(name, **options):
    """Returns a model with the options that it has."""
    return ModelConfig(name, **{k: v for k, v in options.items() if k in tasks.MODEL_OPTIONS[name]})


def parameters(task):
    return parameter_count(nnx.eval_shape(lambda: task.build(nnx.Rngs(0))))


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("the cat sat on the mat. " * 80, encoding="utf-8")
    return str(path)


def test_classification_is_scored_by_cross_entropy_and_accuracy():
    made = dataset(3, 4)
    task = tasks.supervised(made, ModelConfig("mlp"))
    batch = task.batch_of(task.train.arrays, jnp.arange(12))
    logits = np.asarray(batch.inputs @ RNG.normal(size=(4, 3)).astype(np.float32), np.float64)
    scores = task.scores(lambda x: jnp.asarray(logits, jnp.float32), batch, None)
    labels = made.train.targets
    log_sums = np.log(np.exp(logits).sum(-1))
    np.testing.assert_allclose(scores["loss"], log_sums - logits[range(12), labels], rtol=1e-5)
    np.testing.assert_array_equal(scores["accuracy"], 100 * (logits.argmax(-1) == labels))


def test_batches_are_normalized_by_the_training_part():
    made = dataset(3, 4)
    task = tasks.supervised(made, ModelConfig("mlp"))
    chosen = np.array([4, 0, 2])
    batch = task.batch_of(task.validation.arrays, chosen)
    inputs = made.train.inputs
    expected = (made.validation.inputs[chosen] - inputs.mean(0)) / inputs.std(0)
    np.testing.assert_allclose(batch.inputs, expected, rtol=1e-4)
    np.testing.assert_array_equal(batch.targets, made.validation.targets[chosen])


def test_regression_is_scored_by_the_squared_error_of_standardized_targets():
    made = dataset(0, 4)
    task = tasks.supervised(made, ModelConfig("mlp"))
    batch = task.batch_of(task.train.arrays, np.arange(12))
    scores = task.scores(lambda x: jnp.zeros((12, 1)), batch, None)
    assert [*scores] == ["loss"]
    targets = made.train.targets[:, 0]
    np.testing.assert_allclose(
        scores["loss"], ((targets - targets.mean()) / targets.std()) ** 2, rtol=1e-4
    )
    assert float(scores["loss"].mean()) == pytest.approx(
        1.0, rel=1e-5
    )  # the loss of forecasting the mean


def test_a_forecast_is_the_output_at_the_last_time():
    task = tasks.supervised(dataset(0, 5, 2), ModelConfig("gru"))
    batch = task.batch_of(task.train.arrays, np.arange(3))
    outputs = jnp.asarray(RNG.normal(size=(3, 5, 1)))
    scores = task.scores(lambda x: outputs, batch, None)
    expected = (outputs[:, -1] - batch.targets)[:, 0] ** 2
    np.testing.assert_allclose(scores["loss"], expected, rtol=1e-5)


def test_every_example_of_a_part_is_evaluated():
    task = tasks.supervised(dataset(3, 4), ModelConfig("mlp"))
    for part, count in ((task.train, 12), (task.validation, 5), (task.test, 4)):
        assert part.examples == count
        assert part.evaluation_indices.tolist() == [*range(count)]


def test_picking_examples_is_the_same_on_the_host_and_in_a_program(text):
    made = [
        tasks.supervised(dataset(3, 4), ModelConfig("mlp")),
        tasks.load(text, ModelConfig("gru"), context=8),
    ]
    for task in made:
        chosen = np.array([[1, 0], [3, 3]], np.int32)  # [steps, networks], as in a stream
        here = task.pick(task.train.arrays, chosen)
        there = jax.jit(task.pick)(task.train.arrays, chosen)
        for one, other in zip(jax.tree.leaves(here), jax.tree.leaves(there), strict=True):
            assert isinstance(one, np.ndarray)
            np.testing.assert_array_equal(one, other)


def test_a_batch_of_a_text_has_consecutive_tokens(text):
    task = tasks.load(text, ModelConfig("gru"), context=8)
    tokens = task.train.arrays
    batch = task.batch_of(tokens, np.array([0, 5, task.train.examples - 1]))
    assert (batch.shape, batch.dtype) == ((3, 9), np.int32)
    assert task.tokenizer.decode(np.asarray(batch[0])) == "the cat s"
    assert task.tokenizer.decode(np.asarray(batch[1])) == "at sat on"
    np.testing.assert_array_equal(batch[2], tokens[-9:])
    assert task.replacement


def test_a_text_is_scored_by_the_cross_entropy_of_the_next_token(text):
    task = tasks.load(text, ModelConfig("gru"), context=8)
    batch = task.batch_of(task.train.arrays, np.arange(2))
    vocabulary = int(task.train.arrays.max()) + 1
    seen = []

    def model(tokens):
        seen.append(tokens)
        # Predicts with certainty that the token repeats.
        return 50.0 * jax.nn.one_hot(tokens, vocabulary)

    loss = task.scores(model, batch, None)["loss"]
    np.testing.assert_array_equal(seen[0], batch[:, :-1])
    wrong = np.asarray(batch[:, 1:] != batch[:, :-1])
    np.testing.assert_allclose(loss, 50.0 * wrong.mean(-1), rtol=1e-5)


def test_every_token_after_the_first_is_evaluated_once_up_to_an_incomplete_window(text):
    task = tasks.load(text, ModelConfig("gru"), context=8)
    for part in (task.validation, task.test):
        targets = (part.evaluation_indices[:, None] + np.arange(1, 9)).ravel().tolist()
        assert targets == [*range(1, len(targets) + 1)]
        assert len(part.arrays) - 8 <= len(targets) + 1 <= len(part.arrays)


def test_a_text_shorter_than_the_context_raises_a_one_line_error(tmp_path):
    path = tmp_path / "short.txt"
    path.write_text("a few words, and not more. " * 5)
    for context, title in ((200, "training"), (20, "validation")):
        with pytest.raises(DataError) as raised:
            tasks.load(str(path), ModelConfig("gru"), context=context)
        message = str(raised.value)
        assert f"its {title} part of" in message
        assert f"expected at least {context + 1} for a context of {context}" in message
        assert "\n" not in message


@pytest.mark.parametrize(
    ("shape", "count"),
    [
        (ModelConfig("mlp", width=7), 64 * 7 + 7 + 7 * 10 + 10),
        (ModelConfig("mlp", width=7, depth=2), 64 * 7 + 7 + 7 * 7 + 7 + 7 * 10 + 10),
    ],
)
def test_a_network_has_the_requested_width_and_depth(shape, count):
    assert parameters(tasks.load("digits", shape)) == count


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("mlp", (10, 10, 1)),
        ("cnn", (10, 10, 1)),
        ("resnet", (10, 10, 3)),
        ("lstm", (5, 2)),
        ("gru", (5, 2)),
        ("tcn", (5, 2)),
    ],
)
def test_every_model_scores_each_example(name, inputs):
    made = dataset(3, *inputs)
    task = tasks.supervised(
        made, model_config(name, width=4, depth=8 if name == "resnet" else None)
    )

    def scored():
        model = task.build(nnx.Rngs(0))
        batch = task.batch_of(jax.tree.map(jnp.asarray, task.train.arrays), jnp.arange(6))
        return task.scores(model, batch, jax.random.key(0))

    shapes = {score: (each.shape, each.dtype) for score, each in jax.eval_shape(scored).items()}
    assert shapes == {"loss": ((6,), np.float32), "accuracy": ((6,), np.float32)}


@pytest.mark.parametrize("name", ["transformer", "lstm", "gru"])
def test_every_language_model_scores_each_window(name, text):
    task = tasks.load(text, model_config(name, width=4), context=8)

    def scored():
        batch = task.batch_of(jnp.asarray(task.train.arrays), jnp.arange(6))
        return task.scores(task.build(nnx.Rngs(0)), batch, None)

    (loss,) = jax.eval_shape(scored).values()
    assert (loss.shape, loss.dtype) == ((6,), np.float32)


def test_the_default_context_is_the_models(text):
    assert tasks.load(text, ModelConfig("transformer")).batch_of(
        np.arange(99), np.zeros(1, int)
    ).shape == (1, 65)
    rows = tasks.load(text, ModelConfig("gru")).batch_of(np.arange(99), np.zeros(1, int)).shape
    assert rows == (1, 65)


def test_examples_of_a_series_are_its_windows():
    series = data.load("goog")
    task = tasks.load("goog", ModelConfig("lstm"), window=7)
    assert task.train.arrays.inputs.shape[1:] == (7, 5)
    np.testing.assert_array_equal(task.train.arrays.inputs[0], series.values[:7])
    assert task.train.arrays.targets[0] == series.values[7, series.columns.index("Close")]


def test_the_baseline_of_a_series_forecasts_the_last_value():
    task = tasks.load("goog", ModelConfig("lstm"), window=7)
    close = data.load("goog").values[:, data.load("goog").columns.index("Close")]
    count = task.test.examples
    errors = close[-count:] - close[-count - 1 : -1]
    spread = close[: task.train.examples + 7].std()  # of the training rows
    name, scores = task.baseline
    assert name == "last value"
    assert scores["loss"] == pytest.approx(np.mean((errors / spread) ** 2), rel=1e-4)


def test_the_baseline_of_classes_is_the_most_frequent_one():
    task = tasks.load("digits", ModelConfig("mlp"))
    labels = task.train.arrays.targets.tolist()
    most = max(set(labels), key=labels.count)
    name, scores = task.baseline
    assert name == f"most frequent class ({most})"
    assert scores == {"accuracy": pytest.approx(100 * np.mean(task.test.arrays.targets == most))}


def test_the_baseline_of_values_is_their_mean():
    task = tasks.load("diabetes", ModelConfig("mlp"))
    train, test = (part.arrays.targets.astype(float) for part in (task.train, task.test))
    name, scores = task.baseline
    assert name == "mean of the training targets"
    expected = np.mean((test - train.mean()) ** 2) / train.var()
    assert scores == {"loss": pytest.approx(expected, rel=1e-5)}


def test_the_digest_changes_with_every_number_of_every_part():
    made = dataset(3, 4)
    digests = {tasks.supervised(made, ModelConfig(name)).digest() for name in ("mlp", "mlp")}
    for place in (1, 2, 3):
        for leaf in (0, 1):
            parts = [Split(*(np.copy(each) for each in part)) for part in made[1:4]]
            parts[place - 1][leaf].reshape(-1)[-1] += 1
            changed = made._replace(train=parts[0], validation=parts[1], test=parts[2])
            digests.add(tasks.supervised(changed, ModelConfig("mlp")).digest())
    assert len(digests) == 7


def test_a_transformer_has_the_requested_positions_and_biases(text):
    plain = parameters(tasks.load(text, ModelConfig("transformer")))
    rotary = parameters(tasks.load(text, ModelConfig("transformer", positions="rotary")))
    biased = parameters(tasks.load(text, ModelConfig("transformer", bias=True)))
    assert plain - rotary == 64 * 64  # the embedding of 64 positions in 64 dimensions
    assert biased > plain


@pytest.mark.parametrize("name", ["mlp", "cnn", "resnet", "lstm", "tcn"])
def test_the_dtype_is_used_for_the_computation_and_not_for_parameters(name):
    inputs = (5, 2) if name in ("lstm", "tcn") else (10, 10, 1)
    depth = 8 if name == "resnet" else None
    task = tasks.supervised(
        dataset(3, *inputs), model_config(name, width=4, depth=depth)._replace(dtype=jnp.bfloat16)
    )
    graph, state = nnx.split(nnx.eval_shape(lambda: task.build(nnx.Rngs(0))))
    assert {leaf.dtype for leaf in jax.tree.leaves(state) if leaf.ndim} == {np.dtype("float32")}

    def scored(state):
        batch = task.batch_of(jax.tree.map(jnp.asarray, task.train.arrays), jnp.arange(2))
        return task.scores(nnx.merge(graph, state), batch, None)

    program = str(jax.make_jaxpr(scored)(state))
    assert "bf16[" in program


@pytest.mark.parametrize("name", ["mlp", "cnn", "resnet", "lstm", "gru", "tcn"])
def test_dropout_is_applied_or_rejected(name):
    inputs = (5, 2) if name in ("lstm", "gru", "tcn") else (10, 10, 1)
    depth = 8 if name == "resnet" else None
    made = dataset(3, *inputs)
    if "dropout" not in tasks.MODEL_OPTIONS[name]:
        with pytest.raises(ValueError, match=f"--dropout must be left out with {name}"):
            tasks.supervised(made, ModelConfig(name, depth=depth, dropout=0.5))
        return
    task = tasks.supervised(made, model_config(name, width=4, dropout=0.5))
    graph, state = nnx.split(nnx.eval_shape(lambda: task.build(nnx.Rngs(0))))

    def scored(state):
        batch = task.batch_of(jax.tree.map(jnp.asarray, task.train.arrays), jnp.arange(2))
        return task.scores(nnx.merge(graph, state), batch, jax.random.key(0))

    assert "random_bits" in str(jax.make_jaxpr(scored)(state))


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("digits", ModelConfig("cnn"), "model 'cnn' does not take digits"),
        ("digits", ModelConfig("transformer"), "model 'transformer' does not take digits"),
        ("goog", ModelConfig("resnet"), "model 'resnet' does not take"),
        ("digits", ModelConfig("mpl"), "model 'mpl' does not take digits"),
        ("digitz", ModelConfig("mlp"), "unknown data set 'digitz'; did you mean digits"),
    ],
)
def test_a_model_that_does_not_fit_the_data_is_rejected(name, shape, words):
    with pytest.raises(ValueError, match=words) as raised:
        tasks.load(name, shape)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        (
            ModelConfig("mlp"),
            "model 'mlp' does not take text, a text; transformer, lstm and gru do",
        ),
        (ModelConfig("transformer", size="7M"), "size must be .*'7M'"),
    ],
)
def test_a_model_that_does_not_fit_a_text_is_rejected(text, shape, words):
    with pytest.raises(ValueError, match=words):
        tasks.load(text, shape)


@pytest.mark.parametrize(
    ("name", "options", "flag"),
    [
        ("digits", {"context": 8}, "context"),
        ("digits", {"tokenizer": "byte"}, "tokenizer"),
        ("goog", {"vocabulary_size": 300}, "vocabulary-size"),
        ("TEXT", {"window": 8}, "window"),
    ],
)
def test_options_of_other_kinds_of_data_are_rejected(text, name, options, flag):
    name, shape = (text, "gru") if name == "TEXT" else (name, "mlp")
    with pytest.raises(ValueError, match=f"--{flag} must be left out with {name}, which is not a"):
        tasks.load(name, ModelConfig(shape), **options)


@pytest.mark.parametrize("name", tasks.MODELS)
def test_options_that_a_model_does_not_have_are_rejected(name):
    values = {"size": "3M", "width": 4, "depth": 8, "positions": "rotary", "bias": True}
    for option, value in values.items():
        shape = ModelConfig(name, **{option: value})
        if option in tasks.MODEL_OPTIONS[name]:
            shape.check()
        else:
            with pytest.raises(ValueError, match=f"--{option} must be left out with {name}"):
                shape.check()


def test_a_missing_text_raises_a_data_error(tmp_path):
    with pytest.raises(DataError, match="no-such"):
        tasks.load(str(tmp_path / "no-such.txt"), ModelConfig("gru"))
