"""Bad input to every entry point: status 2, one line on standard error, and nothing is written.

Inputs are refused before anything is trained, so that one process tries them all in seconds.
"""

import json
import shutil
from pathlib import Path

import jax
import pytest
from commands import MODULES, refused
from published_files import write_files
from tiny_run import contents, write_untrained

from experiments.learn_order import Config, resolve
from mdm_jax.runs.adaptive import fresh_policy
from mdm_jax.runs.directory import BEST
from mdm_jax.runs.training import training_run
from mdm_jax.training.checkpoints import open_manager, save
from mdm_jax.training.optimizers import OptimizerConfig, make_optimizer
from mdm_jax.training.state import init_state

# of each entry point: flags, part of the message
TRAIN = [
    (
        "--base.width 32",
        "--base.width has no effect with --scaling none: give --scaling completed-p",
    ),
    ("--scaling sde --base.depth 2", "--base.depth has no effect with --scaling sde"),
    ("--scaling sde", "--scaling sde needs one of --base.width, --base.depth, --base.batch_size"),
    ("--scaling completed-p --base.width 0", "width must be at least 1"),
    ("--steps 0", "steps must be at least 1, got 0"),
    ("--steps -1", "steps must be at least 1, got -1"),
    ("--steps many", "--steps: invalid literal for int()"),
    ("--steps 1.5", "--steps: invalid literal for int()"),
    ("--steps", "Missing value for argument '--steps'"),
    ("--stepz 3", "Unrecognized options: --stepz, 3"),
    ("stray", "Unrecognized options: stray"),
    ("--batch_size 0", "batch_size must be at least 1, got 0"),
    ("--batch_size 100000000000", "batch_size must be at most 10000000"),
    ("--heldout_rows 100000000000", "heldout_rows must be at most 10000000"),
    ("--batch_size 6", "batch_size 6 does not divide into 1 micro-batches on each of 4"),
    ("--micro_batches 0", "micro_batches must be at least 1, got 0"),
    ("--eval_every 0", "eval_every must be at least 1, got 0"),
    ("--save_every 0", "save_every must be at least 1, got 0"),
    ("--log_every -3", "log_every must be at least 1, got -3"),
    ("--heldout_rows 1", "heldout_rows must be at least 2, got 1"),
    ("--ema_decay nan", "ema_decay must be"),
    ("--ema_decay 1", "ema_decay must be"),
    ("--seed -1", "seed must be at least 0, got -1"),
    ("--seed 4294967296", "seed must be at most 4294967295, got 4294967296"),
    ("--seed 99999999999999999999", "seed must be at most 4294967295"),
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
    ("--model.attention linear", "invalid choice 'linear'"),
    ("--model.attention scale-invariant --model.grid_rope", "attention scale-invariant has one"),
    ("--task gsm8k --data_dir data --task.prompt_length 2", "none of the 18 train items fits"),
    ("--task gsm8k --data_dir text", "text/train.jsonl, line 1 is not JSON"),
    ("--task gsm8k --data_dir file", "file/train.jsonl does not exist"),
    ("--task gsm8k --data_dir data --task.tokenizer_file file", "file is not a tokenizer.json"),
    ("--start /gone", "/gone is no run directory"),
    ("--start published", "it is for another denoiser"),
    ("--run_dir published", "published/config.json is not that of a run"),
    ("--run_dir broken", "broken/config.json is damaged, not JSON"),
    ("--compilation_cache file", "File exists: file"),
    ("--model.width -8", "width"),
    ("--model.heads 3", "heads 3"),
    ("--model.depth 0", "depth"),
    ("--model.depth 1000000000", "depth must be at most 1000"),
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
    ("--optimizer.learning_rate 1e400", "learning_rate must be finite"),
    ("--optimizer.warmup 9999999999", "warmup must be at most 2.147484e+09"),
    ("--optimizer.b1 1.5", "b1 must be"),
    ("--optimizer.b1 -0.1", "b1 must be"),
    ("--optimizer.b2 nan", "b2 must be"),
    ("--optimizer.eps -1", "eps must be"),
    ("--optimizer.weight_decay nan", "weight_decay must be"),
    ("--optimizer.clip nan", "clip must be"),
    ("--optimizer.module_rates value 0", "the module rate of value must be above 0"),
    ("--optimizer.warmup -1", "warmup must be"),
    ("--optimizer.final_fraction 2", "final_fraction must be"),
    ("--processes.count 2", "give all three of --processes.count, .id and .coordinator"),
    (
        "--processes.count -1 --processes.id 0 --processes.coordinator a:1",
        "count must be at least 1",
    ),
    ("--processes.count 2 --processes.id 2 --processes.coordinator a:1", "id must be at most 1"),
    ("--processes.count 2 --processes.id 0 --processes.coordinator a", "'a' is not HOST:PORT"),
    ("--run_dir file", "file"),
    ("--run_dir file/below", "file"),
    (f"--run_dir {'x' * 300}", "File name too long"),
    ("--run_dir other", "is not a run directory but holds thesis.tex"),
]
LEARN_ORDER = [
    ("--budget 0", "budget must be at least 1, got 0"),
    ("--budget 17", "budget 17 exceeds the 16 positions of sudoku"),
    ("--steps 0", "steps must be at least 1"),
    ("--batch_size 0", "batch_size must be at least 1"),
    ("--eval_batch_size 0", "eval_batch_size must be at least 1"),
    ("--examples 0", "examples must be at least 1"),
    ("--examples 100000000000", "examples must be at most"),
    ("--temperature nan", "temperature must be"),
    ("--temperature -1", "temperature must be"),
    ("--policy_temperature inf", "policy_temperature must be"),
    ("--ema_decay 1.5", "ema_decay must be"),
    ("--seed -5", "seed must be at"),
    ("--denoiser /gone", "/gone is no run directory"),
    ("--oracle --denoiser run", "give --oracle or --denoiser, not both"),
    ("--oracle --task chains", "no exact conditionals"),
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
    ("--start.certainty nan", "certainty must be"),
    ("--start.spacing -1", "spacing must be"),
    ("--start.policy /gone", "/gone is no run directory"),
    ("--start.policy run", "run is no run of learn_order for sudoku"),
    ("--train.steps 0", "steps must be at least 1"),
    ("--policy_optimizer.b2 2", "b2 must be"),
    ("--preset big", "invalid choice 'big' for argument '--preset'"),
    ("form:round", "form:round"),
    ("--task gsm8k --data_dir data --task.prompt_length 2", "none of the 18 train items fits"),
    ("--denoiser file", "file is no run directory"),
    ("--denoiser sums", "SHA256SUMS is damaged: files that were written are not listed"),
    ("--denoiser empty", "no checkpoints at empty/checkpoints"),
    (
        "--denoiser run --run_dir run",
        "holds a run of train_denoiser, not of learn_variational_order",
    ),
    ("--run_dir other", "is not a run directory but holds thesis.tex"),
]
LEARN_POLICY = [
    ("--prompts 0", "prompts must be at least 1"),
    ("--pool 2", "pool must be at least 16, got 2"),
    ("--pool 100000000000", "pool must be at most 10000000"),
    ("--window 0", "window must be at least 1"),
    ("--collapse nan", "collapse must be"),
    ("--collapse 0", "collapse must be"),
    ("--block_length 3", "block_length 3"),
    ("--block_length 0", "block_length"),
    ("--temperature inf", "temperature must be"),
    ("--policy_temperature nan", "policy_temperature must be"),
    ("--examples -1", "examples must be at least 1"),
    ("--eval_batch_size 0", "eval_batch_size must be at least 1"),
    ("--seed 4294967296", "seed must be at"),
    ("--objective.group 1", "group must be at least 2"),
    ("--preset per-step --objective.group 4", "objective is a setting of GRPO"),
    ("--preset per-step --branches.draws 1", "draws must be at least 2"),
    ("--preset per-step --branches.states 17", "branches.states must be at most 16"),
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
    ("--warm_start.steps -1", "steps must be at least 0"),
    ("--warm_start.learning_rate nan", "learning_rate must be"),
    ("--warm_start.teacher.threshold nan", "threshold must be finite"),
    ("--optimizer.learning_rate -1", "learning_rate must be"),
    ("--denoiser /gone", "/gone is no run directory"),
    ("--denoiser published", "published is a published checkpoint"),
    ("--denoiser broken", "broken/config.json is damaged, not JSON"),
    ("--policy.start /gone", "/gone is no run directory"),
    ("--policy.start run", "run holds no policy"),
    ("--policy.start adaptive", "GRPO does not start from it"),
    ("--task gsm8k --denoiser published --data_dir data --task.prompt_length 5", "longer than"),
    ("--oracle --task chains", "no exact conditionals"),
]
LEARN_PAIRS = [
    ("--allowance -1", "allowance must be at least 0"),
    ("--allowances 0.1 nan", "allowance must be at least 0 and finite"),
    ("--label_calls -1", "label_calls must be at least 0"),
    ("--network.width 0", "width must be at least 1"),
    ("--batch_size 0", "batch_size must be at least 1"),
    ("--denoiser /gone", "/gone is no run directory"),
]
LEARN_ADAPTIVE_ORDER = [
    ("--budget 0", "budget must be at least 1, got 0"),
    ("--budget 100", "budget 100 exceeds the 16 positions of sudoku"),
    ("--block_length 3", "block_length 3 does not divide the 16 generated positions"),
    ("--batch_size 0", "batch_size must be at least 1"),
    ("--batch_size 48", "replay.capacity 4096 is no multiple of batch_size 48"),
    ("--heldout_rows 0", "heldout_rows must be at least 1"),
    ("--eval_every 0", "eval_every must be at least 1"),
    ("--steps 0", "steps must be at least 1"),
    ("--ema_decay 1", "ema_decay must be below 1"),
    ("--examples 0", "examples must be at least 1"),
    ("--temperature nan", "temperature must be"),
    ("--seed -1", "seed must be at least 0"),
    ("--replay.prices 0 1", "prices[0] must be above 0"),
    ("--replay.prices 1 0.1", "prices[1] must be at least 1.0"),
    ("--replay.prices 0.1 inf", "prices[1] must be finite"),
    ("--replay.prices 1", "Missing value for argument '--replay.prices'"),
    ("--replay.capacity 0", "capacity must be at least 1"),
    ("--replay.updates 0", "updates must be at least 1"),
    ("--replay.replayed 0", "replayed must be at least 1"),
    ("--replay.draws 1", "draws must be at least 2"),
    ("--replay.skip nan", "skip must be"),
    ("--replay.exploration 2", "exploration must be at most 1"),
    ("--replay.target_rate 0", "target_rate must be above 0"),
    ("--replay.entropy nan", "entropy must be"),
    ("--replay.anneal 0", "anneal must be above 0"),
    ("--replay.price_offset 0", "price_offset must be above 0"),
    ("--replay.chunk 0", "chunk must be at least 1"),
    ("network:adaptive-config --network.width 0", "width must be at least 1"),
    ("network:adaptive-config --network.heads 3", "heads 3 must divide width 32"),
    ("network:adaptive-config --network.depth -1", "depth must be at least 0"),
    ("network:adaptive-config --network.canvas -1", "canvas must be at least 0"),
    ("network:adaptive-config --network.max_length 3", "raise max_length 3"),
    ("network:adaptive-config --network.start.slope nan", "slope must be finite"),
    ("--network.width 8", "Unrecognized or misplaced options: --network.width"),
    ("--policy_optimizer.b1 2", "b1 must be below 1"),
    ("--critic_optimizer.learning_rate nan", "learning_rate must be"),
    ("--denoiser /gone", "/gone is no run directory"),
    ("--denoiser run --task chains", "but task chains has"),
    ("--oracle --task chains", "no exact conditionals"),
    ("--oracle --denoiser run", "give --oracle or --denoiser, not both"),
    ("--run_dir other", "is not a run directory but holds thesis.tex"),
    ("--task gsm8k --data_dir data --task.prompt_length 2", "none of the 18 train items fits"),
]
EVALUATE = [
    ("--draws 0", "draws must be at least 1"),
    ("--draws 2 --pass_at 1 3", "pass_at must be at most 2, got 3"),
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
    ("--budget 99999999999999999999", "budget must be at most 2.147484e+09"),
    ("--top_k 99999999999999999999", "top_k must be at most 2.147484e+09"),
    ("--temperature 1e39", "temperature must be at most 3.402823e+38"),
    ("--refresh 4", "needs a cache"),
    ("--cache dual --refresh 0", "refresh must be"),
    ("--cache whole", "invalid choice 'whole'"),
    ("--forbid_ids 99", "forbid_ids"),
    ("--forbid_ids -1", "forbid_ids"),
    ("--forbid_ids 0 1 2 3", "forbid_ids"),
    ("--late_ids 99", "late_ids"),
    ("--split dev", "split 'dev' is not one of train, heldout, test"),
    ("--examples 0", "count 0 must be at least 1"),
    ("--examples 100000000000", "count 100000000000 must be"),
    ("--batch_size 0", "a batch of 0"),
    ("--batch_size -4", "a batch of -4"),
    ("--parallel pmap --batch_size 6", "a batch of 6 cannot be shared by 4 devices"),
    ("--parallel threads", "invalid choice 'threads'"),
    ("--seed -1", "seed must be at"),
    ("--tensor 0", "tensor must be between 1 and the 4 devices, got 0"),
    ("--tensor 99", "tensor must be between"),
    ("--dtype float64", "invalid choice 'float64'"),
    ("--task humaneval", "task 'humaneval' is for published checkpoints"),
    ("--data_dir /nowhere", "leave out --data_dir /nowhere"),
    ("--denoiser run", "give --run or --denoiser, not both"),
    ("--task chains", "but task chains has"),
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
    ("policy:pc-sampler --policy.frequencies /nowhere.npy", "/nowhere.npy"),
    ("policy:pc-sampler --policy.frequencies text/train.jsonl", "is no .npy file of token counts"),
    ("policy:pc-sampler --policy.frequencies data", "Is a directory: data"),
    ("policy:klass --policy.history 0", "history must be at least 1"),
    ("policy:klass --policy.kl_threshold nan", "kl_threshold must be"),
    ("policy:klass --policy.confidence_threshold nan", "confidence_threshold must be"),
    ("policy:threshold-quota --policy.threshold nan", "threshold must be"),
    ("policy:remdm-cap --policy.eta nan", "eta must be"),
    ("policy:remdm-loop --policy.alpha_on 2", "alpha_on must be"),
    ("policy:remdm-rounds --policy.rounds -1", "rounds must be"),
    ("policy:p2 --policy.eta -1", "eta must be"),
    ("policy:wino --policy.threshold nan", "threshold must be"),
    ("policy:learned", "run holds no policy"),
    ("policy:learned --policy.run /nowhere", "/nowhere is no run directory"),
    ("policy:learned --policy.run file", "file is no run directory"),
    ("policy:learned --policy.run published", "published is no training run"),
    ("policy:learned --policy.path x", "Unrecognized options: --policy.path, x"),
    ("policy:learned --policy.price -1", "price must be at least 0, got -1"),
    ("policy:learned --policy.price nan", "price must be at least 0 and finite, got nan"),
    ("policy:learned --policy.price inf", "price must be finite, got inf"),
    ("policy:learned --policy.fallback worst", "invalid choice 'worst'"),
    ("policy:learned --policy.scale nan", "scale must be"),
    ("policy:learned --policy.steps 0", "steps must be"),
    ("--threshold nan", "threshold must be finite"),
    ("--steps 4 --remasking high", "invalid choice 'high'"),
    ("--steps 4 policy:random", "give --steps 4 or a policy:NAME"),
    ("--gen_length 8", "task sudoku has no such setting"),
    ("--out_dir other", "is not a run directory but holds thesis.tex"),
    ("--out_dir file", "file"),
    ("--out_dir published", "published/config.json is not that of a run"),
]
GENERATIVE = [
    ("--temperatures", "nothing to sweep"),
    ("--temperatures 0.5 0", "token_temperature must be above 0"),
    ("--masks 0", "masks must be at least 1"),
    ("--reference /nowhere", "/nowhere is no run directory"),
    ("policy:p2", "P2 re-masks"),
    ("policy:punt", "Punt re-masks, changes the logits or looks at what it drew"),
    ("--policy_sees_draw", "a temperature sweep takes no --guidance"),
]
FRONTIER = [
    ("--steps --thresholds --factors --gammas", "nothing to sweep"),
    ("--steps 0", "steps must be"),
    ("--thresholds nan", "threshold must be finite"),
    ("--gammas nan", "gamma must be finite"),
    ("--factors -1", "factor must be"),
    ("--learned /nowhere", "/nowhere is no run directory"),
    ("--batch_size 0", "a batch of 0"),
    ("--examples -1", "must be at least 1"),
    ("--block_length 3", "choose one of [1, 2, 4, 8, 16]"),
]
SAMPLE = [
    ("--count 0", "count must be at least 1"),
    ("--first -1", "first must be at least 0"),
    ("--first 100000000000", "first must be at most 2.147484e+09"),
    ("--prompt Why?", "--prompt is only for published checkpoints"),
    ("--block_length 3", "block_length 3 does not divide"),
    ("--seed 1e3", "--seed: invalid literal for int()"),
]
QUICKSTART = [
    ("--preset hour", "invalid choice 'hour' for argument '--preset'"),
    ("--temperature nan", "temperature must be"),
    ("--batch_size 0", "a batch of 0"),
    ("--parallel pmap --batch_size 2", "use a positive multiple of 4"),
    ("--examples 0", "count 0 must be at least 1"),
    ("--learn.policy.width 0", "width"),
    ("--learn.eval_batch_size 0", "eval_batch_size must be at least 1"),
    ("--seed -1", "seed must be at"),
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
TRAINING_COST = [
    ("--tokens 0", "tokens must be above 0"),
    ("--micro_batches 3", "micro_batches 3 does not divide batch_size 128"),
    ("--preset 3b --length 64", "sequences have 2048 positions"),
]
BENCHMARK_GENERATION = [
    ("--block_length 0", "block_length"),
    ("--block_length 48", "block_length 48 does not divide gen_length 128"),
    ("--steps 1", "steps 1"),
    ("--threshold nan", "threshold must be finite"),
    ("--caches", "give at least one"),
    ("--caches all", "all"),
    ("--batch_sizes", "give at least one"),
    ("--batch_sizes 0", "batch_sizes"),
    ("--gen_length 0", "gen_length"),
    ("--prompt 0", "prompt"),
    ("--model.mlp 0", "mlp"),
    ("--model.kv_heads 3", "kv_heads"),
]
COORDINATES = [
    ("--widths 64", "widths (64,) must be two different sizes or more"),
    ("--depths 2 2", "depths (2, 2) must be two different sizes or more"),
    ("--widths 24 48", "head_width 16 does not divide the width 24"),
    ("--updates 3", "updates must be at least 4"),
    ("--alpha 2", "alpha must be"),
    ("--tolerance 0", "tolerance must be above 0"),
]
LONGER = [
    ("--task sudoku", "task sudoku has one length only"),
    ("--task text8 --data_dir /nowhere", "/nowhere does not exist"),
    ("--times 0", "times must be at least 1"),
    ("--seeds 1 1", "give --seeds, each once"),
    ("--attention linear", "invalid choice 'linear'"),
    ("--train.learned_positions", "learned positions have none beyond the training length"),
]
EXPORT = [
    ("--run run", "Missing from"),
    ("--run run --out new", "is no published checkpoint"),
    ("--run published --out other", "other is not empty"),
    ("--run published --out file", "file"),
    ("--run /gone --out new", "/gone is no run directory"),
    ("--run broken --out new", "broken/config.json is damaged, not JSON"),
    ("--run published --out new", "published holds no *.safetensors"),
    ("--run published --out published", "published is not empty"),
]
REPAIR_STORE = [
    ("", "Missing from"),
    ("--store /gone", "/gone does not exist: give a directory with samples.jsonl"),
    ("--store other", "other/samples.jsonl does not exist"),
]
FIT_LAWS = [
    ("", "Missing from"),
    ("--runs /gone.csv", "/ has no gone.csv"),
    ("--runs file", "file is empty"),
    ("--runs runs.csv runs.csv", "give one file of runs, or run directories, not 2 files"),
    ("--runs runs.csv --names.loss bpc", "the runs have no loss; their columns are flops"),
    ("--runs runs.csv", "5 runs are too few: give at least 6"),
    ("--runs runs.csv --approach isoflop", "2 sizes at 1e+12 FLOPs: a parabola needs three"),
    (
        "--runs edge.csv --approach isoflop",
        "at 6e+12 FLOPs is at the edge of the sizes: add smaller",
    ),
    ("--runs runs.csv --approach envelope", "the envelope needs the training curves of at least 3"),
    ("--runs runs.csv --law downstream", "the runs have no neg_log_accuracy"),
    ("--runs words.csv", "words.csv, run 1: loss is 'low', not a number"),
    ("--runs runs.csv --law calls --approach isoflop", "--approach isoflop is for --law loss"),
    ("--runs runs.csv --law gravity", "invalid choice 'gravity'"),
    ("--runs runs.csv --heldout 1", "heldout must be"),
    ("--runs runs.csv --delta 0", "delta must be"),
    ("--runs runs.csv --draws 1", "draws must be at least 20"),
    ("--runs runs.csv --drop_highest 5", "--drop_highest 5 needs a column loss and more runs"),
    ("--runs run", "config.json has no 'seed': it is damaged"),
    ("--runs other", "other is no run directory"),
    ("--runs runs.csv --seed -1", "seed must be at least 0"),
]
SCALING_SWEEP = [
    ("--budgets", "give --budgets, each once"),
    ("--budgets 1e12 1e12", "give --budgets, each once"),
    ("--budgets nan", "budgets must be"),
    ("--widths", "give --widths, each once"),
    ("--widths 24", "widths 24 is no multiple of head_size 16"),
    ("--head_size 0", "head_size must be at least 2"),
    ("--budgets 1e9", "1e+09 FLOPs are 7 updates at width 16: leave out that width or budget"),
    ("--learning_rates 1e-3", "give one of --learning_rates for each of 5 widths"),
    ("--seed -1", "seed must be at least 0"),
    ("--train.batch_size 0", "batch_size must be at least 1"),
    ("--task text8", "--data_dir"),
    ("--widths 16 --budgets 3e9 --run_dir file", "file"),
]
UNMASKING = [
    ("--only crosswords", "only 'crosswords' is none of sudoku, chains"),
    ("--weights", "give at least one"),
    ("--weights nan", "weights must be at least 0 and finite, got nan"),
    ("--seeds", "give at least one"),
    ("--seeds -1", "seeds must be at least 0"),
    ("--examples 0", "examples must be at least 1"),
    ("--learn.prompts 0", "prompts must be at least 1"),
]
LEARNED_ORDERS = [
    ("--only chess", "only 'chess' is none of sudoku, chains, markov_chain"),
    ("--seeds", "give at least one of --seeds"),
    ("--calls", "give at least one of --calls"),
    ("--calls 0.5", "calls must be"),
    ("--calls nan", "calls must be"),
    ("--examples 0", "examples must be"),
    ("--others /nothing/here --only sudoku", "/nothing/here is no run directory"),
    ("--others run", "--others are for one task"),
]
EXACT = [
    ("--only crosswords", "only 'crosswords' is none of sudoku, sudoku-clues, chains"),
    ("--samples 8", "samples must be at least 16"),
    ("--draws 1", "draws must be at least 2"),
    ("--seed -1", "seed must be at least 0"),
    ("--learned /nothing/here", "/nothing/here is no run directory"),
    ("--run_dir file", "File exists: file"),
]
VARIATIONAL = [
    ("--only crosswords", "only 'crosswords' is none of"),
    ("--budgets", "give at least one"),
    ("--budgets 0", "budgets must be at least 1"),
    ("--budgets 9999", "budget 9999 exceeds the 16 positions of sudoku"),
    ("--run_dir file", "Not a directory: file"),
    ("--seeds -1", "seeds must be at least 0"),
    ("--control_steps -1", "control_steps must be at least 0"),
    ("--examples 0", "examples must be at least 1"),
    ("--learn.budget 0", "budget must be at least 1"),
]
TRIMODAL = [
    ("--only crosswords", "only 'crosswords' is none of schedules, mixing"),
    ("--seeds", "give at least one of --seeds"),
    ("--steps 0", "steps must be at least 1"),
    ("--train.batch_size 1", "train.batch_size must be at least 2"),
    ("--tokenizer_file /nothing/here", "there is no /nothing/here"),
]
FLERM = [
    ("--widths --depths", "give other sizes than the base's: --widths, --depths"),
    ("--widths 100", "width 100 is no multiple of the base's heads, which are 16 wide"),
    ("--model.depth 2 --depths 3", "depth 3 is no multiple of the base's 2"),
    ("--rates 0.1 0.1", "give --rates, each once"),
    ("--every 0", "every must be at least 1"),
    ("--model.scan", "leave out --model.scan, .base_width and .base_depth"),
    ("--task digits3 --data_dir /nowhere", "/nowhere"),
]
TRANSFER_SWEEP = [
    ("--widths", "give other sizes than the base's: --widths, --depths, --batch_sizes"),
    ("--widths 100", "width 100 is no multiple of the base's heads, which are 16 wide"),
    ("--depths 0", "every size must be at least 1"),
    ("--rates 0.1 0.2", "rates (0.1, 0.2) must be three different learning rates or more"),
    ("--rates 0.1 0.2 -1", "rates must be above 0"),
    ("--seeds 1 1", "give --seeds, each once"),
    ("--train.scaling sde --train.base.batch_size 8", "leave out --train.scaling"),
]
TRANSFER_SEARCH = [
    ("--trials 0", "trials must be at least 1"),
    ("--radius 0", "radius must be above 0"),
    ("--modules value value", "give --modules, each once"),
    ("--modules bias", "invalid choice 'bias'"),
    ("--widths 100", "width 100 is no multiple of the base's heads"),
    ("--train.optimizer.module_rates value 2", "leave out --train.scaling and --train.optimizer.m"),
]
RUNS = "1e3,1e12,3.1\n1e4,1e12,3\n1e4,9e12,2.9\n2e4,9e12,2.8\n3e4,9e12,2.9\n"
EDGE = "1e4,6e12,2.7\n2e4,6e12,2.8\n3e4,6e12,2.9\n"
TABLE = {
    "train": TRAIN,
    "learn_variational_order": LEARN_ORDER,
    "learn_order": LEARN_ADAPTIVE_ORDER,
    "learn_pairs": LEARN_PAIRS,
    "learn_policy": LEARN_POLICY,
    "evaluate": [(f"--run run {words}", expected) for words, expected in EVALUATE],
    "frontier": [(f"--run run {words}", expected) for words, expected in FRONTIER],
    "generative_frontier": [(f"--run run {words}", expected) for words, expected in GENERATIVE],
    "scaling_sweep": SCALING_SWEEP,
    "sample": [(f"--run run {words}", expected) for words, expected in SAMPLE],
    "quickstart": QUICKSTART,
    "benchmark": BENCHMARK,
    "benchmark_generation": BENCHMARK_GENERATION,
    "coordinate_check": COORDINATES,
    "longer_canvases": LONGER,
    "export": EXPORT,
    "fit_laws": FIT_LAWS,
    "flerm": FLERM,
    "repair_store": REPAIR_STORE,
    "table_exact": EXACT,
    "table_learned_orders": LEARNED_ORDERS,
    "table_trimodal": TRIMODAL,
    "table_unmasking_policies": UNMASKING,
    "table_variational_orders": VARIATIONAL,
    "transfer_search": TRANSFER_SEARCH,
    "transfer_sweep": TRANSFER_SWEEP,
    "training_cost": TRAINING_COST,
}
CONFIGS = [
    ([], "no training run"),
    ("text", "no training run"),
    ({"format": 1}, "was written by an earlier version of mdm_jax"),
    ({"experiment": "evaluate"}, "no training run"),
    ({"task": None}, "config.json: None describes no"),
    ({"task": 3}, "config.json: 3 describes no"),
    ({"task": {"side": 4}}, "config.json: {'side': 4} describes no"),
    ({"task": {"kind": "Crossword"}}, "config.json: {'kind': 'Crossword'} describes no"),
    ({"task": {"kind": "Sudoku", "size": 4}}, "unexpected keyword argument 'size'"),
    (
        {"task": {"kind": "Sudoku", "side": "four"}},
        "config.json: {'kind': 'Sudoku', 'side': 'four'}",
    ),
    ({"model": None}, "config.json: None describes no TransformerConfig"),
    ({"model": {"kind": "TransformerConfig", "layers": 2}}, "argument 'layers'"),
    ({"model": {"kind": "TransformerConfig", "width": "wide"}}, "'width': 'wide'"),
    ({"model": {"kind": "TransformerConfig", "width": 32}}, "checkpoint 0"),
    ({"experiment": "learn_variational_order"}, "config.json has no 'oracle': it is damaged"),
    (
        {"experiment": "learn_variational_order", "denoiser": "run", "oracle": False},
        "names the run itself",
    ),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Directories that the table speaks of."""
    home = tmp_path_factory.mktemp("bad")
    write_untrained(home / "run")
    (home / "other").mkdir()
    (home / "other" / "thesis.tex").write_text("years of work")
    (home / "file").write_text("")
    write_files(home / "published")  # without weights
    for name in ("broken", "empty", "sums"):
        shutil.copytree(home / "run", home / name)
    (home / "broken" / "config.json").write_text('{"experiment": ')
    shutil.rmtree(home / "empty" / "checkpoints")
    next((home / "sums").rglob("SHA256SUMS")).write_text("garbage\n")
    (home / "runs.csv").write_text("parameters,flops,loss\n" + RUNS)
    (home / "edge.csv").write_text("parameters,flops,loss\n" + EDGE)
    (home / "words.csv").write_text("parameters,flops,loss\n1e6,1e12,low\n")
    for name, lines in {"data": [*map(question, range(20))], "text": ["hello\n"]}.items():
        (home / name).mkdir()
        for split in ("train", "test"):
            (home / name / f"{split}.jsonl").write_text("".join(lines))
    write_adaptive(home / "adaptive")
    return home


def question(number):
    return json.dumps({"question": f"{number}+1?", "answer": f"It is\n#### {number + 1}"}) + "\n"


def write_adaptive(directory):
    """What `policy.start` reads of a run of learn_order, before its first update."""
    config = resolve(Config(oracle=True, run_dir=str(directory)))
    policy = fresh_policy(config.network, config.task, jax.random.key(0))
    state = init_state({"policy": policy.params}, make_optimizer(OptimizerConfig(), 1))
    with training_run(config, "learn_order"), open_manager(directory / BEST) as best:
        save(best, state)


@pytest.mark.parametrize(
    ("name", "words", "expected"),
    [(name, *case) for name, cases in TABLE.items() for case in cases],
)
def test_refused(capsys, files, monkeypatch, name, words, expected):
    monkeypatch.chdir(files)
    before = contents(files)
    assert expected in refused(capsys, name, *words.split())
    assert contents(files) == before


@pytest.mark.parametrize(("changed", "expected"), CONFIGS)
@pytest.mark.parametrize("name", ["evaluate", "sample"])
def test_a_config_that_no_run_wrote(capsys, files, tmp_path, monkeypatch, name, changed, expected):
    shutil.copytree(files / "run", tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "run" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | changed if isinstance(changed, dict) else changed))
    before = contents(tmp_path)
    assert expected in refused(capsys, name, "--run", "run")
    assert contents(tmp_path) == before


def test_every_entry_point_is_tried():
    """But lm_harness, whose inputs are in the file that has a stand-in for the harness."""
    files = {path.stem for path in Path(MODULES["evaluate"].__file__).parent.glob("[!_]*.py")}
    assert files == {module.__name__.split(".")[1] for module in MODULES.values()} | {"lm_harness"}
    assert TABLE.keys() == MODULES.keys()
    assert sum(map(len, TABLE.values())) >= 120
