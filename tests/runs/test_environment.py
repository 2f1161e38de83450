"""Which revision of the code a run names."""

import os
import subprocess

from mdm_jax.runs import environment


def test_environment_names_the_revision_only_of_a_checkout_with_the_package_in_it(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e"]
    subprocess.run([*git, "init", "-q"], check=True)
    module = tmp_path / "module.py"
    module.write_text("")
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "m"], check=True)
    monkeypatch.setattr(environment, "__file__", str(module))
    assert (
        environment.environment()["git_commit"] is None
    )  # e.g. a virtual environment in a checkout
    subprocess.run([*git, "add", "module.py"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "m"], check=True)
    env = environment.environment()
    assert len(env["git_commit"]) == 40
    assert env["git_dirty"] is False
    module.write_text("x")
    assert environment.environment()["git_dirty"] is True
