"""Counting compilations, and what peaks are measured on."""

import jax
import jax.numpy as jnp
import pytest

from mdm_jax.profiling import timing

ONES = jnp.ones(3)


def test_compilations_of_both_runs_count():
    once = jax.jit(lambda x: jnp.cos(x) + 1)
    compiled = timing.compile_job(lambda: once(ONES))
    assert compiled.compilations == 1 and compiled.seconds > 0 and compiled.result.shape == (3,)
    every_time = timing.compile_job(lambda: jax.jit(lambda x: jnp.cos(x) + 2)(ONES))
    assert every_time.compilations == 2


def test_a_job_that_fails_leaves_no_listener():
    with pytest.raises(ZeroDivisionError), timing._compile_seconds() as seconds:
        raise ZeroDivisionError
    jax.jit(lambda x: x + 41)(ONES)
    assert seconds == []


def test_peaks_are_measured_on_random_numbers(monkeypatch):
    """A GPU draws less power, and clocks higher, on ones."""
    random, products = timing._random, []

    def small(shape, dtype, seed):
        return random(tuple(min(size, 64) for size in shape), dtype, seed)

    monkeypatch.setattr(timing, "_random", small)
    monkeypatch.setattr(timing, "_best_seconds", lambda job, _: products.append(job()) or 1.0)
    timing.measure_peaks("float32", 1)
    assert [product.shape for product in products] == [(64, 64), (64,)]
    assert all(jnp.std(product) > 4 for product in products)  # about 8, and 0 of ones
