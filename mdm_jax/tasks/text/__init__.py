"""Plain text by the character."""

from mdm_jax.tasks.text.task import Text8

__all__ = ["Text8"]
