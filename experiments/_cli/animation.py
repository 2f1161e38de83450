"""One generation as it is revealed."""

import time

from rich.live import Live
from rich.text import Text

from experiments._cli.console import console
from mdm_jax.evals.replay import Replay

FRAME_SECONDS, LONGEST_SECONDS = 0.35, 30.0


def show_replay(replay: Replay, title: str) -> None:
    """Animate a generation in a terminal; elsewhere print its end. A long prompt is printed once."""
    if replay.prompt is not None:
        console.print(Text(replay.prompt, style="dim"))
    play(replay.frames, title)


def play(texts: list[str], title: str) -> None:
    """Show the texts one after another in a terminal; elsewhere print the last."""
    if not console.is_terminal:
        console.print(Text(texts[-1]))
        return
    with Live(console=console, refresh_per_second=20) as live:
        for step, text in enumerate(texts):
            live.update(Text(f"{title}: {step} of {len(texts) - 1} denoiser calls\n{text}"))
            time.sleep(min(FRAME_SECONDS, LONGEST_SECONDS / len(texts)))
