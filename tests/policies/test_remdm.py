"""ReMDM against the transition tables of its own code, and its limits."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdm_jax.policies.remasking.remdm import (
    RemdmCap,
    RemdmConf,
    RemdmLoop,
    RemdmRescale,
)

MASK = 15
KINDS = {"mdlm": RemdmCap, "remdm-cap": RemdmCap, "remdm-rescale": RemdmRescale}
KINDS |= {"remdm-loop": RemdmLoop, "remdm-conf": RemdmConf}
# without c1, the forward-backward sigma, which is not offered here
KEYS = [f"c{n}_nuc{p}" for n in (0, 2, 3, 4, 5, 6) for p in ("1.0", "0.9")]


@pytest.fixture(params=KEYS)
def recorded(request, shared_dir):
    folder = shared_dir / "parity/samplers"
    runs = json.loads((folder / "remdm_kernels.json").read_text())["runs"]
    run = next(run for run in runs if run["key"] == request.param)
    arrays = np.load(folder / "remdm_kernels.npz")
    start = run["key"] + "_"
    return run, {name[len(start) :]: arrays[name] for name in arrays if name.startswith(start)}


def policy_of(run):
    knobs = {name: run[name] for name in ("eta", "t_on", "t_off", "alpha_on") if name in run}
    if run["sampler"] == "mdlm":
        knobs = {"eta": 0.0}
    return KINDS[run["sampler"]](steps=run["steps"], **knobs)


def nucleus(p, top_p):
    """ReMDM's filter, which drops the token that crosses `top_p` where Dream's keeps it."""
    order = np.argsort(-p, axis=-1, kind="stable")
    ranked = np.take_along_axis(p, order, axis=-1)
    kept = np.cumsum(ranked, axis=-1) <= top_p
    kept[..., 0] = True
    filtered = np.zeros_like(p)
    np.put_along_axis(filtered, order, ranked * kept, axis=-1)
    return filtered / filtered.sum(axis=-1, keepdims=True)


def our_rates(policy, arrays, dt, step):
    """Probabilities to reveal and to re-mask at each position, [rows, length]."""
    t = jnp.float32(arrays["t"][step])
    revealed = jnp.asarray(arrays["x"][step] != MASK)
    if isinstance(policy, RemdmConf):
        shown = jnp.asarray(-arrays["conf_in"][step])  # theirs is negative, -inf where masked
        shown = jnp.where(revealed, shown, 0.0)
        rates = jax.vmap(policy.rates, in_axes=(None, None, 0, 0))(t, t - dt, shown, revealed)
        reveal, remask = jax.tree.map(np.asarray, rates)
        return np.broadcast_to(reveal[:, None], remask.shape), remask
    return tuple(np.broadcast_to(rate, revealed.shape) for rate in policy.rates(t, t - dt))


def test_rates_are_those_of_its_tables(recorded):
    run, arrays = recorded
    policy = policy_of(run)
    for step in range(run["steps"]):
        reveal, remask = our_rates(policy, arrays, run["dt"], step)
        q, masked = arrays["q"][step], arrays["x"][step] == MASK
        stays = q[..., MASK] / q.sum(axis=-1)
        np.testing.assert_allclose(1 - reveal[masked], stays[masked], atol=2e-4)
        kept = run["sampler"] == "mdlm" or remask.max() == 0  # revealed tokens, whatever the table
        theirs = 0.0 if kept else stays[~masked]
        np.testing.assert_allclose(remask[~masked], theirs, atol=2e-4)
        if kept:
            np.testing.assert_array_equal(arrays["x"][step][~masked], arrays["xs"][step][~masked])


def test_the_same_uniforms_give_the_same_tokens(recorded):
    """Its draw, from our rates times the denoiser's filtered probabilities."""
    run, arrays = recorded
    policy = policy_of(run)
    for step in range(run["steps"]):
        reveal, remask = our_rates(policy, arrays, run["dt"], step)
        masked = arrays["x"][step] == MASK
        if arrays["fresh"][step]:
            tokens = nucleus(arrays["p_x0"][step].astype(float), run["nucleus_p"])
        table = np.where(masked, reveal, 1 - remask)[..., None] * tokens
        table[..., MASK] = np.where(masked, 1 - reveal, remask)
        drawn = np.argmax(table / (1e-10 - np.log(arrays["u"][step] + 1e-10)), axis=-1)
        np.testing.assert_array_equal(drawn, arrays["xs"][step])
