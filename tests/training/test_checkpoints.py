"""Checkpoints on a real file system: exact, pruned, torn, damaged, of another network."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_array_equal

from mdm_jax import sharding
from mdm_jax.checksums import SUMS
from mdm_jax.errors import MdmError
from mdm_jax.training.checkpoints import open_manager, restore, restore_ema, save
from mdm_jax.training.state import TrainState, init_state


def state_at(step, seed=0, width=8):
    rng = np.random.default_rng(seed)
    params = {
        "layer": {"kernel": jnp.asarray(rng.standard_normal((4, width)), "f4")},
        "half": jnp.asarray(rng.standard_normal(3), "bfloat16"),
    }
    state = init_state(params, optax.adam(0.1))
    moments = jax.tree.map(lambda x: x + jnp.asarray(seed + 1, x.dtype), state.opt_state)
    ema = jax.tree.map(lambda x: x / 3, params)
    return TrainState(jnp.asarray(step, jnp.int32), params, ema, moments)


def equal(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(assert_array_equal, found, expected)
    assert [x.dtype for x in jax.tree.leaves(found)] == [x.dtype for x in jax.tree.leaves(expected)]


def write(directory, *states, keep=2):
    with open_manager(directory, keep) as manager:
        for state in states:
            save(manager, state)


def read(directory, like):
    with open_manager(directory) as manager:
        return restore(manager, like)


def test_what_comes_back_is_what_was_saved(tmp_path):
    saved = state_at(7, seed=3)
    write(tmp_path, saved)
    like = state_at(0, seed=1)
    equal(read(tmp_path, like), saved)
    ema, step = restore_ema(tmp_path, jax.eval_shape(lambda: like.ema))
    assert step == 7
    equal(ema, saved.ema)


def test_weights_that_are_not_finite_are_not_used(tmp_path):
    state = state_at(7)
    write(tmp_path, state._replace(ema=jax.tree.map(lambda leaf: leaf * np.inf, state.ema)))
    with pytest.raises(MdmError, match=r"weights of checkpoint 7 in .* are NaN or infinite"):
        restore_ema(tmp_path, state.ema)


def test_the_latest_counts_and_two_are_kept(tmp_path):
    write(tmp_path, *[state_at(step, seed=step) for step in (5, 10, 15)])
    equal(read(tmp_path, state_at(0)), state_at(15, seed=15))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["10", "15"]
    write(tmp_path, state_at(20, seed=20), keep=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["20"]


def test_a_run_that_went_back_writes_over_what_it_left(tmp_path):
    """At the same step and at an earlier one; what is later belongs to a run that is no more."""
    write(tmp_path, state_at(8, seed=1))
    for step in (8, 6):
        write(tmp_path, state_at(step, seed=step), keep=1)
        equal(read(tmp_path, state_at(0)), state_at(step, seed=step))
    assert [path.name for path in tmp_path.iterdir()] == ["6"]


def test_fresh_directories(tmp_path):
    like = state_at(0, seed=2)
    assert read(tmp_path / "new", like) is like
    with pytest.raises(ValueError, match=r"no finished checkpoint in .*new: train first"):
        restore_ema(tmp_path / "new", like.ema)
    with pytest.raises(ValueError, match=r"no checkpoints at .*missing: train first"):
        restore_ema(tmp_path / "missing", like.ema)
    assert not (tmp_path / "missing").exists()


def test_a_save_cut_short_is_passed_over(tmp_path):
    """A killed writer leaves a directory that was never renamed."""
    write(tmp_path, state_at(3, seed=3))
    shutil.copytree(tmp_path / "3", tmp_path / "9.orbax-checkpoint-tmp-1", dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "9.orbax-checkpoint-tmp-1" / "ema")
    equal(read(tmp_path, state_at(0)), state_at(3, seed=3))


def truncate(directory):
    for path in directory.rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: truncate(d / "ema"),
        lambda d: shutil.rmtree(d / "ema" / "d"),
        lambda d: shutil.rmtree(d / "ema"),
        truncate,
    ],
    ids=["truncated", "no data", "no item", "all truncated"],
)
def test_damage_is_one_clear_line(tmp_path, damage):
    write(tmp_path, state_at(3, seed=3), state_at(6, seed=6))
    damage(tmp_path / "6")
    message = rf"^checkpoint 6 in .* cannot be read .*delete {tmp_path}/6 to go back"
    for reader in (
        lambda: read(tmp_path, state_at(0)),
        lambda: restore_ema(tmp_path, state_at(0).ema),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            reader()
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 600
    shutil.rmtree(tmp_path / "6")  # as told
    equal(read(tmp_path, state_at(0)), state_at(3, seed=3))


def test_a_flipped_bit_is_found_in_what_is_read(tmp_path):
    """Without checksums, 9 of 60 flips in a checkpoint's arrays were read as other weights."""
    saved = state_at(3, seed=3)
    write(tmp_path, saved)
    rng = np.random.default_rng(0)
    for item in ("ema", "params"):
        for file in sorted(path for path in (tmp_path / "3" / item).rglob("*") if path.is_file()):
            whole = file.read_bytes()
            damaged = bytearray(whole)
            damaged[rng.integers(len(whole))] ^= 1 << rng.integers(8)
            file.write_bytes(damaged)
            with pytest.raises(ValueError, match=r"checkpoint 3 in .* is damaged: it is not what"):
                read(tmp_path, state_at(0))
            if item == "params":  # which is not read here
                equal(restore_ema(tmp_path, state_at(0).ema)[0], saved.ema)
            file.write_bytes(whole)
    equal(read(tmp_path, state_at(0)), saved)


def test_a_checkpoint_without_checksums_is_read(tmp_path):
    """Of an earlier version."""
    write(tmp_path, state_at(3, seed=3))
    (tmp_path / "3" / SUMS).unlink()
    equal(read(tmp_path, state_at(0)), state_at(3, seed=3))


@pytest.mark.parametrize(
    "other",
    [
        state_at(0, width=16),
        state_at(0)._replace(ema={"another": jnp.zeros(3)}, params={"another": jnp.zeros(3)}),
    ],
    ids=["wider", "other names"],
)
def test_another_network_is_refused(tmp_path, other):
    write(tmp_path, state_at(3))
    for reader in (lambda: read(tmp_path, other), lambda: restore_ema(tmp_path, other.ema)):
        with pytest.raises(ValueError, match=r"checkpoint 3 .* of another network") as caught:
            reader()
        assert "\n" not in str(caught.value)


def test_state_comes_back_where_the_new_one_lives(tmp_path):
    """Saved from one device, restored split over four, and the other way round."""
    saved = state_at(4, seed=4)
    write(tmp_path / "a", saved)
    homes = sharding.shard_largest_axis(sharding.make_mesh(), saved)
    split = sharding.shard(state_at(0), homes)
    found = read(tmp_path / "a", split)
    equal(found, saved)
    assert jax.tree.map(lambda x: x.sharding, found) == homes
    write(tmp_path / "b", found)
    back = read(tmp_path / "b", state_at(0))
    equal(back, saved)
    assert {len(x.devices()) for x in jax.tree.leaves(back)} == {1}


def test_the_average_comes_back_on_one_device(tmp_path):
    """Whatever it was trained on, so that using it does not repeat the work on every device."""
    saved = state_at(4, seed=4)
    homes = sharding.shard_largest_axis(sharding.make_mesh(), saved)
    write(tmp_path, sharding.shard(saved, homes))
    ema, _ = restore_ema(tmp_path, jax.eval_shape(lambda: saved.ema))
    equal(ema, saved.ema)
    assert {len(leaf.devices()) for leaf in jax.tree.leaves(ema)} == {1}
    assert not any(leaf.committed for leaf in jax.tree.leaves(ema))
