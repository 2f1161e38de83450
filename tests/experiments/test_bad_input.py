"""Bad input to every entry point: status 2, one line on standard error, and nothing is written.

Inputs are refused before anything is trained, so that one process tries them all in seconds.
"""

import json
import shutil

import pytest
from commands import MODULES, refused
from published_files import write_files
from tiny_run import contents

RUN = [
    "--run",
    "run",
]  # a run of train_denoiser without a checkpoint: what is wrong is found before
PUBLISHED = ["--denoiser", "published"]  # files of a published checkpoint, without weights

# entry point, flags, part of the message
TRAIN = [
    ("--steps 0", "steps must be at least 1, got 0"),
    ("--steps -1", "steps must be at least 1, got -1"),
    ("--steps many", "--steps: invalid literal for int()"),
    ("--steps 1.5", "--steps: invalid literal for int()"),
    ("--steps", "Missing value for argument '--steps'"),
    ("--stepz 3", "Unrecognized options: --stepz, 3"),
    ("stray", "Unrecognized options: stray"),
    ("--batch_size 0", "batch_size must be at least 1, got 0"),
    ("--batch_size 6", "batch_size 6 does not divide into 1 micro-batches on each of 4"),
    ("--micro_batches 0", "micro_batches must be at least 1, got 0"),
    ("--eval_every 0", "eval_every must be at least 1, got 0"),
    ("--save_every 0", "save_every must be at least 1, got 0"),
    ("--log_every -3", "log_every must be at least 1, got -3"),
    ("--heldout_rows 1", "heldout_rows must be at least 2, got 1"),
    ("--ema_decay nan", "ema_decay must be"),
    ("--ema_decay 1", "ema_decay must be"),
    ("--times sometimes", "invalid choice 'sometimes' for argument '--times'"),
    ("objective:nothing", "objective:nothing"),
    ("--task", "Missing value for argument '--task'"),
    ("--task soduku", "unknown task 'soduku'; choose from sudoku, chains"),
    ("--task math", "task 'math' is for published checkpoints"),
    ("--task.side 5", "side 5"),
    ("--task.min_clues 17", "clues"),
    ("--task.num_examples 0", "num_examples"),
    ("--task chains --task.depth 0", "depth"),
    ("--task gsm8k --data_dir /nowhere", "/nowhere"),
    ("--task text8", "--data_dir"),
    ("--task text8 --data_dir /nowhere", "/nowhere does not exist"),
    ("--data_dir /nowhere", "leave out --data_dir /nowhere"),
    ("--model.width 0", "width"),
    ("--model.width -8", "width"),
    ("--model.heads 3", "heads 3"),
    ("--model.depth 0", "depth"),
    ("--model.mlp -8", "mlp"),
    ("--model.mlp 0", "mlp"),
    ("--model.max_length 8", "max_length 8"),
    ("--model.max_length 0", "max_length"),
    ("--model.rope_base 0", "rope_base"),
    ("--model.rope_base nan", "rope_base"),
    ("--model.dtype float8", "invalid choice 'float8'"),
    ("--optimizer.learning_rate 0", "learning_rate must be"),
    ("--optimizer.learning_rate nan", "learning_rate must be"),
    ("--optimizer.learning_rate inf", "learning_rate must be"),
    ("--optimizer.b1 1.5", "b1 must be"),
    ("--optimizer.b1 -0.1", "b1 must be"),
    ("--optimizer.b2 nan", "b2 must be"),
    ("--optimizer.eps -1", "eps must be"),
    ("--optimizer.weight_decay nan", "weight_decay must be"),
    ("--optimizer.clip nan", "clip must be"),
    ("--optimizer.warmup -1", "warmup must be"),
    ("--optimizer.final_fraction 2", "final_fraction must be"),
]
LEARN_ORDER = [
    ("--budget 0", "budget must be at least 1, got 0"),
    ("--budget 17", "budget 17 exceeds the 16 positions of sudoku"),
    ("--steps 0", "steps must be at least 1"),
    ("--batch_size 0", "batch_size must be at least 1"),
    ("--examples 0", "examples must be at least 1"),
    ("--denoiser /gone", "/gone is no run directory"),
    ("--oracle --denoiser run", "leave the others out"),
    ("--scorer.width -1", "width"),
    ("--scorer.heads 3", "heads 3"),
    ("--policy.width 0", "width"),
    ("--policy.depth -1", "depth"),
    ("--objective.samples 1", "samples must be at least 2"),
    ("--objective.temperature 0", "temperature must be"),
    ("--objective.temperature nan", "temperature must be"),
    ("--objective.beta_kl inf", "beta_kl must be"),
    ("--objective.anneal 2", "anneal must be"),
    ("--start.search.chains 0", "chains"),
    ("--start.search.proposals -1", "proposals"),
    ("--start.search.sequences 0", "sequences"),
    ("--train.steps 0", "steps must be at least 1"),
    ("--policy_optimizer.b2 2", "b2 must be"),
    ("--preset big", "invalid choice 'big' for argument '--preset'"),
    ("form:round", "form:round"),
]
LEARN_POLICY = [
    ("--prompts 0", "prompts must be at least 1"),
    ("--pool 2", "pool must be at least 16"),
    ("--window 0", "window must be at least 1"),
    ("--collapse nan", "collapse must be"),
    ("--collapse 0", "collapse must be"),
    ("--examples -1", "examples must be at least 1"),
    ("--objective.group 1", "group must be at least 2"),
    ("--objective.clip nan", "clip must be"),
    ("--objective.clip -1", "clip must be"),
    ("--objective.updates 0", "updates must be at least 1"),
    ("--objective.beta -1", "beta must be"),
    ("--objective.chunk 0", "chunk"),
    ("--objective.reward.compute_weight nan", "compute_weight must be"),
    ("--policy.steps 0", "steps must be at least 1"),
    ("--policy.network.width 0", "width"),
    ("--policy.network.heads 3", "heads 3"),
    ("--policy.network.top_p 0", "top_p"),
    ("--policy.candidate_top_k 0", "candidate_top_k must be at least 1"),
    ("--warm_start.teacher.threshold nan", "threshold must be finite"),
    ("--optimizer.learning_rate -1", "learning_rate must be"),
    ("--denoiser /gone", "/gone is no run directory"),
    ("--denoiser published", "published is a published checkpoint"),
]
EVALUATE = [
    ("--temperature nan", "temperature must be"),
    ("--temperature inf", "temperature must be"),
    ("--temperature -1", "temperature must be"),
    ("--top_p 0", "top_p must be"),
    ("--top_p nan", "top_p must be"),
    ("--top_k 0", "top_k must be"),
    ("--guidance nan", "guidance must be"),
    ("--guidance 1", "guidance"),
    ("--block_length 0", "block_length 0"),
    ("--block_length 5", "block_length 5 does not divide"),
    ("--budget 0", "budget must be"),
    ("--refresh 4", "needs a cache"),
    ("--cache dual --refresh 0", "refresh must be"),
    ("--cache whole", "invalid choice 'whole'"),
    ("--split dev", "split 'dev' is not one of train, heldout, test"),
    ("--examples 0", "count 0 must be at least 1"),
    ("--batch_size 0", "a batch of 0"),
    ("--batch_size -4", "a batch of -4"),
    ("--parallel pmap --batch_size 6", "a batch of 6 cannot be shared by 4 devices"),
    ("--parallel threads", "invalid choice 'threads'"),
    ("--tensor 0", "tensor must be between 1 and the 4 devices, got 0"),
    ("--tensor 99", "tensor must be between"),
    ("--dtype float64", "invalid choice 'float64'"),
    ("--task humaneval", "task 'humaneval' is for published checkpoints"),
    ("--data_dir /nowhere", "leave out --data_dir /nowhere"),
    ("--denoiser run", "give --run or --denoiser, not both"),
    ("policy:best", "policy:best"),
    ("--policy.nonsense 3", "--policy.nonsense"),
    ("--policy.steps 0", "steps must be"),
    ("--policy.schedule fast", "schedule"),
    ("policy:confidence-threshold --policy.threshold nan", "threshold must be finite, got nan"),
    ("policy:confidence-threshold --policy.threshold inf", "threshold must be finite, got inf"),
    ("policy:factor --policy.factor -1", "factor must be at least 0"),
    ("policy:factor --policy.factor nan", "factor must be"),
    ("policy:entropy-bound --policy.gamma nan", "gamma must be finite, got nan"),
    ("policy:top-k-random --policy.candidates 0", "candidates must be at least 1"),
    ("policy:softmax-confidence --policy.policy_temperature 0", "policy_temperature must be"),
    ("policy:perturbed --policy.policy_temperature nan", "policy_temperature must be"),
    ("policy:perturbed --policy.base.steps 0", "steps must be"),
    ("policy:pc-sampler --policy.decay nan", "decay must be"),
    ("policy:klass --policy.history 0", "history must be at least 1"),
    ("policy:klass --policy.kl_threshold nan", "kl_threshold must be"),
    ("policy:klass --policy.confidence_threshold nan", "confidence_threshold must be"),
    ("policy:threshold-quota --policy.threshold nan", "threshold must be"),
    ("policy:remdm-cap --policy.eta nan", "eta must be"),
    ("policy:remdm-loop --policy.alpha_on 2", "alpha_on must be"),
    ("policy:remdm-rounds --policy.rounds -1", "rounds must be"),
    ("policy:p2 --policy.eta -1", "eta must be"),
    ("policy:wino --policy.threshold nan", "threshold must be"),
    ("policy:learned --policy.fallback worst", "invalid choice 'worst'"),
    ("policy:learned --policy.scale nan", "scale must be"),
    ("policy:learned --policy.steps 0", "steps must be"),
    ("--threshold nan", "threshold must be finite"),
    ("--steps 4 --remasking high", "invalid choice 'high'"),
    ("--steps 4 policy:random", "give --steps 4 or a policy:NAME"),
    ("--gen_length 8", "task sudoku has no such setting"),
]
FRONTIER = []
SAMPLE = [
    ("--prompt Why?", "--prompt is for published checkpoints"),
    ("--seed 1e3", "--seed: invalid literal for int()"),
]
QUICKSTART = [
    ("--preset hour", "invalid choice 'hour' for argument '--preset'"),
    ("--temperature nan", "temperature must be"),
    ("--batch_size 0", "a batch of 0"),
    ("--parallel pmap --batch_size 2", "use a positive multiple of 4"),
    ("--examples 0", "count 0 must be at least 1"),
    ("--learn.policy.width 0", "width"),
]
BENCHMARK = [
    ("--vocab 0", "vocab"),
    ("--steps 0", "steps must be between 1 and length 128, got 0"),
    ("--samples 3", "samples must be at least 2 and divide batch_size"),
    ("--repeats 0", "repeats"),
    ("--model.width -8", "width"),
    ("--model.mlp -8", "mlp"),
    ("--task sudoku", "Unrecognized options: --task, sudoku"),
]
BENCHMARK_GENERATION = [
    ("--block_length 0", "block_length"),
    ("--block_length 48", "block_length 48 does not divide gen_length 128"),
    ("--steps 1", "steps 1"),
    ("--threshold nan", "threshold must be finite"),
    ("--caches all", "all"),
    ("--batch_sizes 0", "batch_sizes"),
    ("--gen_length 0", "gen_length"),
    ("--prompt 0", "prompt"),
    ("--model.mlp 0", "mlp"),
    ("--model.kv_heads 3", "kv_heads"),
]
EXPORT = [
    ("--run run", "Missing from"),
    ("--run run --out new", "did not begin with a published checkpoint"),
    ("--run published --out other", "other is not empty"),
    ("--run published --out file", "file"),
    ("--run /gone --out new", "/gone is no run directory"),
]
UNMASKING = [
    ("--only crosswords", "only 'crosswords' is none of sudoku, chains"),
    ("--weights", "give at least one"),
    ("--seeds", "give at least one"),
    ("--learn.prompts 0", "prompts must be at least 1"),
]
VARIATIONAL = [
    ("--only crosswords", "only 'crosswords' is none of"),
    ("--budgets", "give at least one"),
    ("--learn.budget 0", "budget must be at least 1"),
]
TABLE = {
    "train": TRAIN,
    "learn_order": LEARN_ORDER,
    "learn_policy": LEARN_POLICY,
    "evaluate": [(f"--run run {words}", expected) for words, expected in EVALUATE],
    "frontier": [(f"--run run {words}", expected) for words, expected in FRONTIER],
    "sample": [(f"--run run {words}", expected) for words, expected in SAMPLE],
    "quickstart": QUICKSTART,
    "benchmark": BENCHMARK,
    "benchmark_generation": BENCHMARK_GENERATION,
    "export": EXPORT,
    "table_unmasking_policies": UNMASKING,
    "table_variational_orders": VARIATIONAL,
}
# what config.json of a run may hold by mistake
BASE = {
    "format": 2,
    "experiment": "train_denoiser",
    "task": {"kind": "Sudoku", "side": 4},
    "model": {"kind": "TransformerConfig", "max_length": 16},
}
CONFIGS = [
    ([], "no training run"),
    ("text", "no training run"),
    ({**BASE, "task": 3}, "config.json"),
    ({**BASE, "task": {"side": 4}}, "config.json"),
    ({**BASE, "task": {"kind": "Crossword"}}, "Crossword"),
    ({**BASE, "task": {"kind": "Sudoku", "size": 4}}, "size"),
    ({**BASE, "task": {"kind": "Sudoku", "side": "four"}}, "config.json"),
    ({**BASE, "model": {"kind": "TransformerConfig", "layers": 2}}, "layers"),
    ({**BASE, "model": {"kind": "TransformerConfig", "width": "wide"}}, "width"),
    ({**BASE, "model": None}, "config.json"),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Directories that the table speaks of."""
    home = tmp_path_factory.mktemp("bad")
    (home / "run").mkdir()
    (home / "run" / "config.json").write_text(json.dumps(BASE))
    (home / "other").mkdir()
    (home / "other" / "thesis.tex").write_text("years of work")
    (home / "file").write_text("")
    write_files(home / "published")
    return home


@pytest.fixture
def inside(files, tmp_path, monkeypatch):
    """A fresh copy of the files as the current directory."""
    shutil.copytree(files, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.mark.parametrize(
    ("name", "words", "expected"),
    [(name, *case) for name, cases in TABLE.items() for case in cases],
)
def test_refused(capsys, inside, name, words, expected):
    before = contents(inside)
    assert expected in refused(capsys, name, *words.split())
    assert contents(inside) == before


@pytest.mark.parametrize(("config", "expected"), CONFIGS)
@pytest.mark.parametrize("name", ["evaluate", "sample"])
def test_a_config_that_no_run_wrote(capsys, inside, name, config, expected):
    (inside / "run" / "config.json").write_text(json.dumps(config))
    before = contents(inside)
    assert expected in refused(capsys, name, "--run", "run")
    assert contents(inside) == before


def test_every_entry_point_is_tried():
    assert TABLE.keys() == MODULES.keys()
    assert sum(map(len, TABLE.values())) >= 120
