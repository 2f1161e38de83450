"""Figures of accuracy against cost, of generation orders, and of training.

The file of a figure is imported when the figure is first used: matplotlib takes half a second, which
neither `--help` nor an evaluation without figures need wait for.
"""

from importlib import import_module
from typing import Any

_FILES = {
    "calls": ("calls_figure",),
    "coordinates": ("coordinates_figure",),
    "decisions": ("Decided", "decisions_figure", "response_figure"),
    "exact": ("exact_figure",),
    "frontier": ("FrontierRow", "frontier_figure"),
    "generative": ("generative_figure",),
    "laws": ("law_figure",),
    "modalities": ("modality_calls_figure",),
    "order_maps": ("order_map_figure",),
    "priorities": ("priorities_figure",),
    "rate_sweep": ("rate_sweep_figure",),
    "study": ("study_figure",),
    "style": ("save",),
    "training": ("training_figure",),
}
_FILE_OF = {name: file for file, names in _FILES.items() for name in names}
__all__ = sorted(_FILE_OF)


def __getattr__(name: str) -> Any:
    if name not in _FILE_OF:
        raise AttributeError(f"module {__name__} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_FILE_OF[name]}"), name)
