"""ReMDM against the transition tables of its own code, and its limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from recorded import arrays, records

from mdm_jax.policies.remasking.remdm import (
    RemdmCap,
    RemdmConf,
    RemdmLoop,
    RemdmRescale,
)

MASK = 15
KINDS = {"mdlm": RemdmCap, "remdm-cap": RemdmCap, "remdm-rescale": RemdmRescale}
KINDS |= {"remdm-loop": RemdmLoop, "remdm-conf": RemdmConf}


@pytest.fixture(params=records("samplers/remdm"), ids=lambda run: run["key"])
def recorded(request):
    """Settings of one recorded run, and its arrays over steps."""
    start = request.param["key"] + "_"
    found = arrays("samplers/remdm").items()
    return request.param, {name[len(start) :]: x for name, x in found if name.startswith(start)}


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


def our_rates(policy, theirs, dt, step):
    """Probabilities to reveal and to re-mask at each position, [rows, length]."""
    t = jnp.float32(theirs["t"][step])
    revealed = jnp.asarray(theirs["x"][step] != MASK)
    if isinstance(policy, RemdmConf):
        shown = jnp.asarray(-theirs["conf_in"][step])  # theirs is negative, -inf where masked
        shown = jnp.where(revealed, shown, 0.0)
        rates = jax.vmap(policy.rates, in_axes=(None, None, 0, 0))(t, t - dt, shown, revealed)
        reveal, remask = jax.tree.map(np.asarray, rates)
        return np.broadcast_to(reveal[:, None], remask.shape), remask
    return tuple(np.broadcast_to(rate, revealed.shape) for rate in policy.rates(t, t - dt))


def test_rates_are_those_of_its_tables(recorded):
    run, theirs = recorded
    policy = policy_of(run)
    for step in range(run["steps"]):
        reveal, remask = our_rates(policy, theirs, run["dt"], step)
        masked, stays = theirs["x"][step] == MASK, theirs["stays"][step]
        np.testing.assert_allclose(1 - reveal[masked], stays[masked], atol=2e-4)
        kept = run["sampler"] == "mdlm" or remask.max() == 0  # revealed tokens, whatever the table
        expected = 0.0 if kept else stays[~masked]
        np.testing.assert_allclose(remask[~masked], expected, atol=2e-4)
        if kept:
            np.testing.assert_array_equal(
                theirs["x"][step][~masked], theirs["x"][step + 1][~masked]
            )


def test_the_same_uniforms_give_the_same_tokens(recorded):
    """Its draw, from our rates times the denoiser's filtered probabilities."""
    run, theirs = recorded
    policy = policy_of(run)
    for step in range(run["steps"]):
        reveal, remask = our_rates(policy, theirs, run["dt"], step)
        masked = theirs["x"][step] == MASK
        if theirs["fresh"][step]:
            tokens = nucleus(theirs["p_x0"][step].astype(float), run["nucleus_p"])
        table = np.where(masked, reveal, 1 - remask)[..., None] * tokens
        table[..., MASK] = np.where(masked, 1 - reveal, remask)
        drawn = np.argmax(table / (1e-10 - np.log(theirs["u"][step] + 1e-10)), axis=-1)
        np.testing.assert_array_equal(drawn, theirs["x"][step + 1])
