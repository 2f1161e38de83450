"""Freed memory is kept by the process."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import ctypes, resource
from experiments._cli.memory import keep_freed_memory
assert keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    room = libc.malloc(2**26)
    ctypes.memset(ctypes.c_void_p(room), 1, 2**26)
    libc.free(room)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults(), faults())
"""
PROGRAM = """
import resource, sys
import jax, jax.numpy as jnp
from experiments._cli.memory import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
table = jnp.zeros((2**10, 2**12))
program = jax.jit(lambda seed: jnp.cumsum(jnp.cumsum(table + seed, 0), 1)[0, 0])
def faults(seed):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    program(seed).block_until_ready()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(min(faults(float(seed)) for seed in range(8)))  # small pieces may lie between at first
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_what_was_freed_costs_no_page_faults_again():
    done = subprocess.run(
        [sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True
    )
    first, second = map(int, done.stdout.split())
    assert second < 20 <= first


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_a_program_uses_the_memory_of_earlier_runs():
    def faults(how):
        words = [sys.executable, "-c", PROGRAM, how]
        return int(subprocess.run(words, capture_output=True, text=True, check=True).stdout)

    assert faults("kept") < 1000 < faults("given back")
