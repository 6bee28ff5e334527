"""The study of language models: a smoke run, splits, bits per character, decay and schedules."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments import methods, tasks
from experiments.__main__ import main
from experiments.data.corpus import from_text
from experiments.models.sampling import sample
from experiments.studies.language import fine_tuning, optimizers, per_character
from experiments.studies.language.recipes import recipes
from experiments.studies.language.samples import continued
from experiments.studies.language.settings import Settings
from experiments.studies.train.saved_network import SavedNetwork
from experiments.tasks import ModelConfig
from tests.experiments.data.disk import real


def recipe_of(text, tokenizer, **options):
    corpus = from_text("small", text, "made up", tokenizer=tokenizer, validation=0.2, test=0.4)
    task = tasks.text(corpus, ModelConfig("transformer"), context=4)
    return methods.Recipe(title="small", task=task, steps=10, batch_size=1, **options)


def smoke(runs, *flags):
    main(["language", "--scale", "smoke", "--runs", str(runs), *flags])
    (folder,) = (runs / "language").iterdir()
    return json.loads((folder / "run.json").read_text())


def test_a_smoke_run_has_bits_per_character_and_a_sample(tmp_path):
    run = smoke(tmp_path, "--tasks", "topics", "--methods", "self_tuning")
    results = run["results"]
    loss = results["Python topics, characters"]["self_tuning"]["loss"][0]
    found = results["per character"]["Python topics, characters"]
    np.testing.assert_allclose(found["self-tuning Adam"], loss / np.log(2), rtol=1e-6)
    assert found["unigram"] < found["uniform"]
    title = "Python topics, characters, self-tuning Adam: "
    assert any(note.startswith(title) and "is continued by" in note for note in run["notes"])


def test_a_smoke_run_of_nanogpt_trains_with_the_published_schedule(tmp_path):
    flags = ["--data-dir", str(real("tinyshakespeare.txt.gz"))]
    run = smoke(tmp_path, "--tasks", "nanogpt", "--methods", "prodigy", *flags)
    results = run["results"]["nanoGPT's CPU setting"]
    assert [*results] == ["published schedule"]
    (loss,) = results["published schedule"]["loss"]
    assert abs(loss - np.log(65)) < 0.1  # two steps in the warmup


@pytest.mark.parametrize(
    ("tokenizer", "nats"), [("character", np.log(4)), ("byte", 1.4 * np.log(256))]
)
def test_nats_per_character_of_the_uniform_distribution(tokenizer, nats):
    """The text has 5 characters, and 7 bytes, in each period; 4 characters are distinct."""
    recipe = recipe_of("aéaßb" * 200, tokenizer)
    tokens = per_character.predicted_tokens(recipe)[: 140 if tokenizer == "byte" else 100]
    density = per_character.characters_per_token(recipe.task.tokenizer, tokens)
    loss = per_character.baselines(recipe, tokens)["uniform"]
    np.testing.assert_allclose(loss / density, nats, rtol=1e-12)
    np.testing.assert_allclose(
        per_character.bits_per_character(loss, density), nats / np.log(2), rtol=1e-12
    )


def test_the_characters_of_byte_pairs_are_weighted_by_their_length():
    recipe = recipe_of("the theme é of these themes " * 100, "byte_pair")
    tokens = per_character.predicted_tokens(recipe)
    tokenizer = recipe.task.tokenizer
    end = len(tokens) - 1
    while tokenizer.decode(tokens[:end]).endswith("\N{REPLACEMENT CHARACTER}"):
        end -= 1
    text = tokenizer.decode(tokens[:end])
    density = per_character.characters_per_token(tokenizer, tokens[:end])
    assert density > 1.5
    np.testing.assert_allclose(density, len(text) / end, rtol=1e-12)


def test_the_unigram_distribution_has_the_frequencies_of_the_training_part():
    """The training part has 160 times "a", 80 "b" and 80 "c", before one more of each."""
    recipe = recipe_of("aabc" * 200, "character")
    tokens = np.array([0, 0, 1, 2])
    p = np.array([161, 81, 81]) / 323
    expected = -np.mean(np.log(p[tokens]))
    np.testing.assert_allclose(per_character.baselines(recipe, tokens)["unigram"], expected)


def test_all_predicted_tokens_are_of_the_test_part_and_predicted_once():
    recipe = recipe_of("abcdefghij" * 20, "character")
    test = recipe.task.test.arrays
    assert len(test) == 80
    np.testing.assert_array_equal(per_character.predicted_tokens(recipe), test[1:77])


def test_weights_of_matrices_decay_and_no_others():
    params = {"kernel": jnp.ones((2, 3)), "scale": jnp.ones(3), "offset": jnp.ones(())}
    tx = optimizers.adamw(0.5, weight_decay=0.2)
    updates, _ = tx.update(jax.tree.map(jnp.zeros_like, params), tx.init(params), params)
    np.testing.assert_allclose(updates["kernel"], -0.1, rtol=1e-6)
    assert not updates["scale"].any()
    assert not updates["offset"].any()


def test_the_scales_of_a_transformer_do_not_decay():
    task = recipe_of("ab" * 200, "character").task
    shapes = jax.eval_shape(lambda: _params(task))
    decays = {
        jax.tree_util.keystr(path): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(optimizers.matrices(shapes))
    }
    kept = [path for path, decay in decays.items() if not decay]
    assert len(kept) == 5  # of two norms in each of two blocks, and the last one
    assert all("norm" in path for path in kept)


def _params(task):
    return nnx.split(task.build(nnx.Rngs(0)), nnx.Param, ...)[1]


def test_the_published_schedule():
    schedule = optimizers.published_schedule(2_000)
    steps = [0, 50, 100, 1_050, 2_000, 3_000]
    expected = [1e-3 / 101, 51e-3 / 101, 1e-3, 5.5e-4, 1e-4, 1e-4]
    np.testing.assert_allclose([schedule(step) for step in steps], expected, rtol=1e-5)


def test_nanogpt_has_the_last_tenth_as_validation_and_its_sizes():
    settings = Settings(tasks=("nanogpt", "nanogpt_gpu"), data_dir=real("tinyshakespeare.txt.gz"))
    ((recipe,), notes) = recipes(settings)
    task = recipe.task
    assert task.test is task.validation
    assert len(task.train.arrays) == 1_003_854
    assert len(task.validation.arrays) == 111_540
    assert (recipe.steps, recipe.batch_size) == (2_000, 12)
    shapes = jax.eval_shape(lambda: _params(task))
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    assert count == 65 * 128 + 64 * 128 + 4 * (12 * 128**2 + 2 * 128) + 128
    assert any("the last tenth of the text, which nanoGPT validates on" in note for note in notes)
    assert notes[-1] == "nanogpt_gpu was left out: it is trained at scale full only."


def test_a_text_without_its_data_is_named(tmp_path):
    found, notes = recipes(Settings(tasks=("topics", "shakespeare"), data_dir=tmp_path))
    assert [recipe.title for recipe in found] == ["Python topics, characters"]
    assert notes[0].startswith("shakespeare was left out: ")


def test_a_text_is_continued_beyond_the_context():
    model = recipe_of("ab" * 200, "character").task.build(nnx.Rngs(0))
    key = jax.random.key(1)
    found = continued(model, jnp.array([0, 1]), 3, key)
    assert found.shape == (8,)
    assert found[:2].tolist() == [0, 1]
    for part in range(3):
        own = jax.random.fold_in(key, part)
        prompt = found[2 * part : 2 * part + 2]
        expected = sample(model, prompt[None], length=2, key=own)[0]
        np.testing.assert_array_equal(found[2 * part : 2 * part + 4], expected)


@pytest.fixture
def saved(monkeypatch):
    """A network for bytes in place of a saved run."""
    corpus = from_text("saved", "abc " * 100, "made up", tokenizer="byte")
    task = tasks.text(corpus, ModelConfig("transformer"), context=8)
    model = task.build(nnx.Rngs(0))
    model.eval()
    network = SavedNetwork(task, model)
    monkeypatch.setattr(fine_tuning, "load_network", lambda folder: network)
    return network


def test_fine_tuning_starts_at_the_saved_network_on_another_text(saved, tmp_path):
    text = tmp_path / "other.txt"
    text.write_text("deé" * 200)
    settings = Settings(fine_tune=tmp_path, fine_tune_on=str(text), rank=2)
    ((recipe,), notes) = recipes(settings)
    assert recipe.title == "saved to other, rank 2"
    assert not notes
    task = recipe.task
    assert task.tokenizer == saved.task.tokenizer
    starts = task.test.evaluation_indices
    batch = jnp.asarray(task.pick(task.test.arrays, starts), jnp.int32)
    expected = task.scores(saved.model, batch, None)["loss"].mean()
    np.testing.assert_allclose(fine_tuning.loss_before(recipe), expected, rtol=1e-5)
    kernels = 2 * ((64 + 192) + (64 + 64) + 2 * (64 + 256))
    assert f"{2 * (kernels + (256 + 64) + (8 + 64)):,} weights" in fine_tuning.note(recipe)
    # A step with a zero gradient changes no weight.
    tx, params = recipe.adam(0.1), {"w": jnp.ones((2, 2))}
    updates, _ = tx.update({"w": jnp.zeros((2, 2))}, tx.init(params), params)
    assert not updates["w"].any()


def test_fine_tuning_on_data_that_is_not_a_text_is_refused(saved, tmp_path):
    with pytest.raises(ValueError, match="--fine-tune-on must be a text, got digits"):
        recipes(Settings(fine_tune=tmp_path, fine_tune_on="digits"))
