"""Counting compilations."""

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
