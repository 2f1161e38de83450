"""Calls of the denoiser, foretold and counted."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest

from mdm_jax.orders.calls import OrderCalls, search_calls, start_calls
from mdm_jax.orders.prompt_search import PromptSearch
from mdm_jax.orders.search import SearchConfig, SearchData, best_order, search_orders
from mdm_jax.orders.static import DenoiserCosts, sequential_nll
from mdm_jax.orders.variational.forms.max_normalised import MaxNormalised
from mdm_jax.orders.variational.forms.sigmoid import SigmoidScores
from mdm_jax.orders.variational.model import OrderModel, Sequence
from mdm_jax.orders.variational.order_choice import ChoiceConfig
from mdm_jax.orders.variational.start import InitConfig

LENGTH, MASK, PAD = 4, 2, 3
MODEL = OrderModel(MaxNormalised(), 2, MASK, PAD)
CONFIG = SearchConfig(proposals=20, chains=2, sequences=3, validation_sequences=5)


def clean(count):
    return Sequence(jnp.zeros((count, LENGTH), int), jnp.ones((count, LENGTH), bool))


@pytest.mark.parametrize("by", ["success", "bound"])
def test_a_search_makes_as_many_calls_as_it_says(by):
    calls = []

    def counted(canvas, valid, positions=None):
        jax.debug.callback(lambda one: calls.append(one), canvas[0])
        return jnp.zeros((LENGTH, 2))

    denoise, config = jax.tree_util.Partial(counted), replace(CONFIG, by=by)
    data = [clean(3), clean(5)]
    nll = [None, None]
    if by == "success":
        keys = jax.random.split(jax.random.key(0))
        nll = [sequential_nll(keys[i], data[i], denoise, MODEL) for i in range(2)]
    costs = DenoiserCosts(denoise, MODEL)
    orders = search_orders(jax.random.key(1), SearchData(data[0], nll[0]), costs, config)
    best_order(orders, SearchData(data[1], nll[1]), costs)
    jax.effects_barrier()
    assert len(calls) == search_calls(config, MODEL, LENGTH)


def test_what_prompts_choose_from_is_counted_as_well():
    start = InitConfig(search=CONFIG, by_prompt=True, choice=ChoiceConfig(sequences=7))
    each = (
        2 * 2 + LENGTH + 1 + 1
    )  # both orders, sequential decoding, the prompt, the policy's lesson
    alone = start_calls(replace(start, by_prompt=False), MODEL, LENGTH)
    assert alone == search_calls(CONFIG, MODEL, LENGTH)
    assert start_calls(start, MODEL, LENGTH) == alone + 7 * each


def test_searches_of_single_prompts_are_counted_with_what_their_orders_cost():
    start = InitConfig(search=CONFIG, by_prompt=True, choice=ChoiceConfig(sequences=7))
    one = PromptSearch(prompts=5, search=SearchConfig(proposals=10, chains=1, sequences=6))
    search = 6 * (10 + MODEL.budget)  # proposals, and a first order
    completions = 6 * LENGTH * 2  # drawn, and followed once more for their probabilities
    compared = 5 * MODEL.budget  # on the validation sequences
    more = start_calls(replace(start, prompt_search=one), MODEL, LENGTH)
    more -= start_calls(start, MODEL, LENGTH)
    assert more == 5 * (search + completions + compared) + 7 * 5 * MODEL.budget


def test_orders_of_a_policy_are_followed_and_imitated():
    start = InitConfig(search=CONFIG, policy="run", choice=ChoiceConfig(sequences=7))
    assert start_calls(start, MODEL, LENGTH) == 7 * (MODEL.budget + MODEL.budget - 1)


def test_no_search_makes_no_calls():
    assert search_calls(replace(CONFIG, proposals=0), MODEL, LENGTH) == 0
    assert search_calls(CONFIG, replace(MODEL, form=SigmoidScores()), LENGTH) == 0


def test_calls_in_words():
    line = OrderCalls(1_200_000, 1024, 9).summary()
    assert line.endswith("1,201,033 (search 1,200,000, training 1,024, bound 9)")
