"""One tiny run on text, images and speech, from training to a sound."""

from dataclasses import replace

import pytest
from digits_world import settings_in, write_idx, write_sounds
from tiny_run import MODEL, TRAIN

from experiments import _cli as cli
from experiments import evaluate, sample, train_denoiser
from mdm_jax.diffusion.genmd4 import Genmd4
from mdm_jax.diffusion.modal import Modal
from mdm_jax.diffusion.schedules import Cosine, Linear
from mdm_jax.errors import MdmError
from mdm_jax.evals.modal_study.measure import BITS, ROWS, measured, rows_in
from mdm_jax.evals.modal_study.variants import Setting
from mdm_jax.policies.heuristics import TopConfidence
from mdm_jax.runs.config import read_task
from mdm_jax.runs.metrics import MetricsLog
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.tasks.digits3 import Digits3, fitting


def test_from_training_to_a_sound(tmp_path):
    """The run has all that it needs of the data, and each direction is evaluated apart."""
    task, home = Digits3(**settings_in(tmp_path)), tmp_path / "run"
    model = replace(MODEL, modality_embedding=True, grid_rope=True)
    objective = Modal((Linear(), Cosine(), Linear()), spread=0.5, drop=0.2)
    settings = {"modality_weights": (1.0, 0.5, 0.5), "steps": 2, "save_every": 2, "eval_every": 2}
    settings["pack"] = TRAIN.batch_size * task.length  # all of a batch in one row
    config = replace(TRAIN, task=task, model=model, objective=objective, run_dir=str(home))
    train_denoiser.run(replace(config, **settings))
    (tmp_path / "digits3.json").unlink()
    last = MetricsLog(home).rows()[-1]
    assert {"bits_text", "bits_image", "bits_speech", "heldout_nelbo_per_token"} <= last.keys()

    task = replace(read_task(home), direction="t2i")
    policy, sampling = TopConfidence(2), SamplerConfig(temperature=1.0, guidance=1.0)
    asked = evaluate.Config(run=str(home), task=task, policy=policy, sampling=sampling, examples=8)
    outcome = evaluate.run(asked)
    assert outcome.row.passes == 4 and (home / "evaluate-digits3-t2i-test-0").is_dir()

    settings = [
        Setting("t2i", policy, guidance=w, grows=g) for w, g in ((1.0, False), (0.0, False))
    ]
    rows = measured(home, "this", task, settings, 8)
    assert rows[BITS]["nats"] > 0 and rows["t2i: TopConfidence, 2 calls, temperature 1, 8 prompts"]
    before = (home / ROWS).read_text()
    assert measured(home, "this", task, settings, 8) == rows and (home / ROWS).read_text() == before
    assert not rows_in(home, "another")

    media = tmp_path / "media"
    joint = replace(task, direction="joint")
    shown = sample.Config(run=str(home), task=joint, policy=policy, count=1, media_dir=str(media))
    assert sample.run(shown)
    assert sorted(path.suffix for path in media.iterdir()) == [".png", ".png", ".wav"]
    with pytest.raises(MdmError, match="leave out --media_dir"):
        sample.run(replace(shown, task=TRAIN.task))


def test_two_digits_of_28x28_from_the_command_line(tmp_path, monkeypatch):
    """Recordings and IDX files in, a run that needs neither, a caption of two words out."""
    write_sounds(tmp_path)
    write_idx(tmp_path, "train", 800)
    monkeypatch.setattr(fitting, "_COPIES", 0)
    sizes = "--steps 1 --batch_size 4 --model.width 16 --model.depth 1 --model.heads 2"
    task = "--task.images idx --task.num_digits 2 --task.patch 7"
    task += " --task.image_codes 8 --task.speech_codes 6 --task.num_examples 4"
    words = f"--task digits3 --data_dir {tmp_path} {task} {sizes} --run_dir {tmp_path / 'run'}"
    cli.main(train_denoiser.Config, train_denoiser.run, "", words=words.split())
    for path in (*tmp_path.glob("*.wav"), *tmp_path.glob("*ubyte")):
        path.unlink()
    task = replace(read_task(tmp_path / "run"), direction="joint")
    assert task.num_digits == 2 and task.stream.spans[1].grid == (4, 8)
    shown = sample.Config(run=str(tmp_path / "run"), task=task, policy=TopConfidence(2), count=1)
    assert sample.run(shown)


def test_settings_of_modalities_are_refused_where_there_is_one(tmp_path):
    for more in ({"objective": Modal()}, {"modality_weights": (1.0,)}):
        with pytest.raises(MdmError, match="has one modality"):
            train_denoiser.run(replace(TRAIN, run_dir=str(tmp_path / "run"), **more))
    with pytest.raises(MdmError, match="text, image, speech"):
        task = Digits3(**settings_in(tmp_path))
        train_denoiser.run(
            replace(TRAIN, task=task, modality_weights=(1.0,), run_dir=str(tmp_path / "run"))
        )
    with pytest.raises(MdmError, match="has several modalities"):
        train_denoiser.run(
            replace(TRAIN, task=task, objective=Genmd4(), run_dir=str(tmp_path / "run"))
        )
    with pytest.raises(MdmError, match="pack must be at least 16"):
        train_denoiser.run(replace(TRAIN, pack=15, run_dir=str(tmp_path / "run")))
    with pytest.raises(MdmError, match="leave out micro_batches"):
        replace(TRAIN, pack=16, micro_batches=2)
    with pytest.raises(MdmError, match="another objective"):
        replace(TRAIN, pack=16, objective=Genmd4())
    assert not (tmp_path / "run").exists()
