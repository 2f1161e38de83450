"""The loop around an update whose states can be computed by hand."""

import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdm_jax.training.checkpoints import open_manager, restore
from mdm_jax.training.interruption import Interrupted
from mdm_jax.training.loop import Services, TrainingStopped, fit, not_finite
from mdm_jax.training.state import TrainState

KEY = jax.random.key(7)


def state_at(step=0, value=0.0):
    params, nothing = {"w": jnp.asarray(value)}, {"none": jnp.zeros(())}
    return TrainState(jnp.asarray(step, jnp.int32), params, nothing, nothing)


@jax.jit
def update(state, key, batch):
    """Adds the batch, and a random number so that keys matter."""
    value = state.params["w"] + batch + jax.random.uniform(key)
    metrics = {"loss": value, "batch": batch}
    return TrainState(state.step + 1, {"w": value}, state.ema, state.opt_state), metrics


def batch_at(index):
    return jnp.asarray(index, jnp.float32)


def run(state, steps, batch_at=batch_at, update=update, **services):
    return fit(state, update, batch_at, KEY, steps=steps, services=Services(**services))


def expected(steps):
    """Loss after each update, by hand."""
    noise = [float(jax.random.uniform(jax.random.fold_in(KEY, i))) for i in range(steps)]
    return np.cumsum(np.arange(steps, dtype=np.float32) + np.asarray(noise, np.float32))


def test_update_s_uses_key_and_batch_s():
    found = run(state_at(), 6)
    assert int(found.step) == 6
    np.testing.assert_allclose(found.params["w"], expected(6)[-1], rtol=1e-6)


def test_nothing_is_left_to_do():
    state = state_at(4)
    assert run(state, 4, batch_at=lambda index: 1 / 0) is state


def test_rows_are_read_one_update_late_and_never_lost():
    events = []

    def batch(index):
        events.append(f"batch {index}")
        return batch_at(index)

    run(state_at(), 5, batch, log=lambda done, row: events.append(f"row {done}"), log_every=2)
    order = ["batch 0", "batch 1", "batch 2", "row 2", "batch 3", "batch 4", "row 4", "row 5"]
    assert events == order


def test_evaluations_join_their_rows():
    rows = []
    run(
        state_at(),
        5,
        log=lambda done, row: rows.append((done, row)),
        log_every=4,
        evaluate=lambda state, row: {"step_seen": int(state.step), "twice": 2 * row["batch"]},
        eval_every=3,
    )
    assert [done for done, _ in rows] == [3, 4, 5]
    assert [row.get("step_seen") for _, row in rows] == [3, None, 5]
    assert rows[0][1]["twice"] == 2 * rows[0][1]["batch"] == 4


def test_progress_shows_the_latest_row():
    told = []
    run(
        state_at(),
        4,
        log_every=2,
        note=lambda row: f"batch {row['batch']:g}",
        progress=lambda count, note: told.append((count, note)),
    )
    assert told == [(1, ""), (1, ""), (1, "batch 1"), (1, "batch 3")]


@pytest.mark.parametrize("stop", [1, 3, 5])
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path, stop):
    whole, rows = run(state_at(), 6), []
    services = {"save_every": 2, "log": lambda done, row: rows.append(done), "log_every": 1}
    with open_manager(tmp_path) as manager:
        run(state_at(), stop, checkpoints=manager, **services)
    with open_manager(tmp_path) as manager:
        state = restore(manager, state_at())
        assert int(state.step) == stop  # the last update is always saved
        found = run(state, 6, checkpoints=manager, **services)
        assert manager.latest_step() == 6
    np.testing.assert_array_equal(found.params["w"], whole.params["w"])
    assert rows == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_the_update_and_saves_it(tmp_path, number):
    before = signal.getsignal(number)

    def batch(index):
        if index == 2:
            os.kill(os.getpid(), number)
        return batch_at(index)

    with (
        open_manager(tmp_path) as manager,
        pytest.raises(Interrupted, match="after update 3, which is saved") as caught,
    ):
        run(state_at(), 6, batch, checkpoints=manager)
    assert (caught.value.signum, caught.value.step) == (number, 3)
    assert signal.getsignal(number) is before
    with open_manager(tmp_path) as manager:
        found = restore(manager, state_at())
    np.testing.assert_allclose(found.params["w"], expected(3)[-1], rtol=1e-6)


def test_without_checkpoints_signals_keep_their_effect():
    # which a shell has taken from what it starts in the background
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def batch(index):
        os.kill(os.getpid(), signal.SIGINT)
        return batch_at(index)

    try:
        with pytest.raises(KeyboardInterrupt) as caught:
            run(state_at(), 2, batch)
    finally:
        signal.signal(signal.SIGINT, before)
    assert not isinstance(caught.value, Interrupted)


def broken_at(first):
    def broken(state, key, batch):
        state, metrics = update(state, key, batch)
        return state, metrics | {"loss": jnp.where(state.step < first, metrics["loss"], jnp.nan)}

    return broken


def test_a_state_that_the_guard_stops_at_is_saved(tmp_path):
    """Unless the next update has been given it already, as where rows come one update late."""
    for every, saved in ((3, [3]), (10, [])):
        home = tmp_path / str(every)
        with open_manager(home) as manager, pytest.raises(TrainingStopped, match="enough"):
            run(
                state_at(),
                8,
                checkpoints=manager,
                evaluate=lambda state, row: {},
                eval_every=every,
                log_every=1,
                guard=lambda done, row: "enough" if done == 3 else None,
            )
        with open_manager(home) as manager:
            assert manager.all_steps() == saved


def test_a_loss_that_is_not_finite_stops_and_is_not_saved(tmp_path):
    """Rows are wanted at 4 and 8 alone, and yet update 6 is not saved."""
    rows = []
    with (
        open_manager(tmp_path) as manager,
        pytest.raises(TrainingStopped, match="stopped at update 6: loss is nan; lower the learn"),
    ):
        run(
            state_at(),
            8,
            update=broken_at(6),
            checkpoints=manager,
            save_every=2,
            log=lambda done, row: rows.append(done),
            log_every=4,
        )
    assert rows == [4, 6]
    with open_manager(tmp_path) as manager:
        assert manager.all_steps() == [2, 4]


@pytest.mark.parametrize(
    ("step", "row", "message"),
    [
        (3, {"loss": 1.0, "grad_norm": 2.0, "finite_rollouts": 1.0, "accuracy": np.nan}, None),
        (3, {"grad_norm": np.inf}, "grad_norm is inf; lower the learning rate"),
        (1, {"nelbo": np.nan}, "nelbo is nan; check the weights and the data that the"),
        (3, {"finite_rollouts": 0.5}, "the denoiser's logits are NaN or infinite: the weights"),
    ],
)
def test_what_is_not_finite(step, row, message):
    found = not_finite(step, row)
    assert found is message is None or found.startswith(message)


def test_other_reasons_to_stop():
    with pytest.raises(TrainingStopped) as caught:
        run(
            state_at(),
            9,
            guard=lambda done, row: "enough" if row["batch"] >= 3 else None,
            log_every=1,
        )
    assert (caught.value.step, caught.value.reason) == (4, "enough")
