"""Sentences say what the rows do."""

from mdm_jax.evals.score import Row
from mdm_jax.evals.sentences import headline


def row(policy, accuracy, nfe):
    return Row(policy, {"steps": 4}, 1, 2, accuracy, 0.1, 0.9, nfe, 1, 16, 16.0, None)


def test_the_headline_names_the_best_baseline_that_costs_no_more():
    ours, dear = row("LearnedPolicy", 0.5, 4.0), row("Dear", 0.9, 5.0)
    rows = [ours, row("Cheap", 0.3, 2.0), row("Best", 0.4, 4.04), dear]
    rows.append(row("BestStaticOrder", 0.6, 4.0))
    assert headline(rows) == (
        "learned policy: 50.0 % in 4.00 denoiser calls; best heuristic baseline in no more: "
        "Best steps=4, 40.0 % in 4.04"
    )
    assert headline([ours, dear]) == "learned policy: 50.0 % in 4.00 denoiser calls"
