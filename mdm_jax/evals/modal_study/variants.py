"""What the study varies: trainings in which one thing differs, and settings of the sampler."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from mdm_jax.diffusion.modal import Modal
from mdm_jax.diffusion.objectives import Antithetic, Complement, Continuous
from mdm_jax.diffusion.schedules import Cosine, Linear, Polynomial
from mdm_jax.policies.base import Policy
from mdm_jax.policies.heuristics import Random, TopConfidence
from mdm_jax.runs.trainings.transfer import Base

FEW, SEQUENTIAL = 4, 64  # denoiser calls; no response has more positions than the latter
BATCHES = (16, 256, 1024)
WEIGHTS = (0.5, 1.0, 2.0, 4.0)  # of guidance
GUIDED = ("t2i", "tts", "i2a", "a2i")
DIRECTIONS = ("i2t", "asr", *GUIDED, "joint")


class Training(NamedTuple):
    """A training, and where it differs from the others."""

    name: str  # its line in the table
    directory: str
    settings: Mapping[str, Any] = {}  # of train_denoiser
    task: Mapping[str, Any] = {}


class Setting(NamedTuple):
    """How a direction is generated."""

    direction: str
    policy: Policy = TopConfidence(FEW)
    temperature: float = 1.0
    guidance: float = 0.0
    grows: bool = False  # the weight of guidance, with the share that is revealed

    @property
    def name(self) -> str:
        """Policy, calls, temperature and guidance in one text."""
        calls = "sequential" if self.policy.steps == SEQUENTIAL else f"{self.policy.steps} calls"
        growing = " growing" if self.grows else ""
        guided = f", guidance {self.guidance:g}{growing}" if self.guidance else ""
        return f"{type(self.policy).__name__}, {calls}, temperature {self.temperature:g}{guided}"


class Part(NamedTuple):
    """A question of the study."""

    trainings: tuple[Training, ...]
    settings: tuple[Setting, ...]
    by_setting: bool = False  # a line for each setting, not for each training


PLAIN = Training("any order", "base")
USUAL = (
    *(Setting(direction, TopConfidence(SEQUENTIAL), 0.0) for direction in ("i2t", "asr")),
    *(Setting(direction) for direction in GUIDED),
    Setting("joint", TopConfidence(SEQUENTIAL)),
)


def parts(batch_size: int, steps: int) -> dict[str, Part]:
    """All questions by name; trainings of equal directory are the same.

    Args:
      batch_size, steps: of the plain training; all others see as many tokens.
    """
    return {
        "schedules": Part((PLAIN, *_schedules()), USUAL),
        "mixing": Part((PLAIN._replace(name="2 1 2 1 1 1 2"), *_mixing()), USUAL),
        "anti-masking": Part((PLAIN, *_anti_masking(batch_size)), USUAL),
        "batches": Part(
            (PLAIN._replace(name=f"batch {batch_size}"), *_batches(batch_size, steps)), USUAL
        ),
        "guidance": Part((PLAIN._replace(name="never dropped"), _dropping()), _guided(), True),
        "sampling": Part((PLAIN,), _samplers(), True),
    }


def _schedules() -> tuple[Training, ...]:
    found = {
        "linear": Modal((Linear(),)),
        "cosine": Modal((Cosine(),)),
        "quadratic": Modal((Polynomial(2.0),)),
        "image cosine": Modal((Linear(), Cosine(), Linear())),
        "linear, times apart": Modal((Linear(),), spread=1.0),
    }
    return tuple(
        Training(name, f"schedule-{name.replace(', ', '-').replace(' ', '-')}", {"objective": one})
        for name, one in found.items()
    )


def _mixing() -> tuple[Training, ...]:
    found = {"equal": (1,) * 7, "pairs": (1,) * 6 + (0,), "joint": (0,) * 6 + (1,)}
    return tuple(
        Training(f"{name}: {' '.join(map(str, shares))}", f"mixing-{name}", task={"shares": shares})
        for name, shares in found.items()
    )


def _anti_masking(batch_size: int) -> tuple[Training, ...]:
    """At equal compute: two views of a sequence are given half as many sequences."""
    half = {"batch_size": batch_size // 2}
    return (
        Training("independent masks", "masks-continuous", {"objective": Continuous()}),
        Training("complement", "masks-complement", {"objective": Complement(), **half}),
        Training("antithetic", "masks-antithetic", {"objective": Antithetic(), **half}),
    )


def _batches(batch_size: int, steps: int) -> tuple[Training, ...]:
    """As many tokens in batches of other sizes, with and without the rule for them."""
    found = []
    for batch in BATCHES:
        settings = {"batch_size": batch, "steps": max(steps * batch_size // batch, 1)}
        rule = settings | {"scaling": "sde", "base": Base(batch_size=batch_size)}
        found.append(Training(f"batch {batch}, as it is", f"batch-{batch}", settings))
        found.append(Training(f"batch {batch}, SDE rule", f"batch-{batch}-sde", rule))
    return tuple(found)


def _dropping() -> Training:
    """What prompts show is masked in a tenth of the sequences."""
    return Training("dropped in 0.1", "dropped", {"objective": Modal(drop=0.1)})


def _guided() -> tuple[Setting, ...]:
    weights = ((0.0, False), *((w, grows) for grows in (False, True) for w in WEIGHTS))
    return tuple(
        Setting(direction, guidance=weight, grows=grows)
        for weight, grows in weights
        for direction in GUIDED
    )


def _samplers() -> tuple[Setting, ...]:
    """Calls, rule and temperature for each direction."""
    rules = (TopConfidence(2), TopConfidence(FEW), TopConfidence(8), TopConfidence(SEQUENTIAL))
    plain = ((rule, temperature) for rule in rules for temperature in (0.0, 0.7, 1.0))
    chosen = (*plain, (Random(FEW), 1.0), (Random(SEQUENTIAL), 1.0))
    return tuple(Setting(d, rule, warm) for rule, warm in chosen for d in DIRECTIONS)
