"""Settings of learning an order by its fidelity: from branches, or from a replay and a critic."""

from dataclasses import dataclass, field

from mdm_jax.errors import check_range
from mdm_jax.orders.fidelity.likelihood import Reference
from mdm_jax.orders.fidelity.teacher_forcing import Forcing
from mdm_jax.policies.heuristics import EntropyBound
from mdm_jax.policies.networks.critic_network import CriticNetwork


@dataclass(frozen=True, kw_only=True)
class VineConfig:
    """What is compared, and what it is worth.

    Attributes:
      states: visited states at which sets are compared, in each update.
      draws: sets drawn at each.
      cap: most that one sequence is worth. 1 keeps the order's distribution close to sequential decoding.
      prices: of a call, least and largest; drawn log-uniformly for each sequence.
      on_policy: share of the rows that draw tokens of their own.
      try_start: try the set of the heuristic that the policy started at as well.
      entropy: weight of the policy's entropy at the start, in units of a return divided by
        (price + price_offset).
      anneal: share of the run over which it falls to 0.
      price_offset: returns are divided by price + price_offset, so that all prices count.
      chunk: rows that the denoiser is called on together.
    """

    states: int = 192
    draws: int = 4
    cap: float = 1.0
    prices: tuple[float, float] = (0.002, 1.0)
    on_policy: float = 0.25
    try_start: bool = False
    entropy: float = 0.02
    anneal: float = 0.7
    price_offset: float = 0.05
    chunk: int = 64

    def __post_init__(self) -> None:
        check_range("draws", self.draws, 2)  # to have a mean of the others
        for name in ("states", "chunk"):
            check_range(name, getattr(self, name), 1)
        check_range("cap", self.cap, above=0)
        check_range("prices[0]", self.prices[0], above=0)
        check_range("prices[1]", self.prices[1], self.prices[0])
        check_range("on_policy", self.on_policy, 0, 1)
        check_range("entropy", self.entropy, 0)
        check_range("anneal", self.anneal, above=0)
        check_range("price_offset", self.price_offset, above=0)


@dataclass(frozen=True)
class VineParts:
    """What does not change while a policy learns: its network, the denoiser's settings, the reference."""

    config: VineConfig
    forcing: Forcing
    reference: Reference = field(default_factory=Reference)


@dataclass(frozen=True, kw_only=True)
class ReplayConfig:
    """How a policy learns from the calls that it has made.

    Attributes:
      prices: of a call in nats, least and largest; drawn log-uniformly each time a call is replayed.
      on_policy: share of the rows that draw tokens of their own.
      exploration: share of the calls at which a set has little to do with the policy.
      bound: of log-odds; None: none. A policy that is surer is pulled back, with a weight that falls as
        the entropy's. So every position is now and then revealed, or left, and a set that is nearly
        certain goes on being compared with others.
      capacity: rows that are kept; a multiple of the rows of an update.
      updates: gradient steps after each set of new rows.
      replayed: calls in each gradient step.
      skip: share of the replayed calls that are merged with the next, as one call that reveals more.
      draws: sets drawn by the policy at each replayed call.
      borrowed: further sets, each drawn at another price. Where the critic thinks one better than the
        policy's own, the policy is pulled to it: what is found at one price serves at all.
      target_rate: by which the critic that gives the targets follows the one that learns.
      entropy: weight of the policy's entropy at the start, in units of a return divided by
        (price + price_offset).
      anneal: share of the run over which the weights of entropy and bound fall to 0.
      price_offset: returns are divided by price + price_offset, so that all prices count.
      chunk: rows that the denoiser is called on together. Where fewer are left, others are computed for
        nothing; the smaller it is, the fewer.
    """

    prices: tuple[float, float] = (0.01, 4.0)
    on_policy: float = 0.5
    exploration: float = 0.15
    bound: float | None = 5.0
    capacity: int = 4096
    updates: int = 6
    replayed: int = 256
    skip: float = 0.3
    draws: int = 8
    borrowed: int = 4
    target_rate: float = 0.02
    entropy: float = 0.02
    anneal: float = 0.6
    price_offset: float = 0.05
    chunk: int = 32

    def __post_init__(self) -> None:
        check_range("draws", self.draws, 2)  # to have a mean of the others
        for name in ("capacity", "updates", "replayed", "chunk"):
            check_range(name, getattr(self, name), 1)
        for name in ("on_policy", "exploration", "skip"):
            check_range(name, getattr(self, name), 0, 1)
        check_range("prices[0]", self.prices[0], above=0)
        check_range("prices[1]", self.prices[1], self.prices[0])
        check_range("bound", self.bound, above=0)
        check_range("borrowed", self.borrowed, 0)
        check_range("target_rate", self.target_rate, above=0, high=1)
        check_range("entropy", self.entropy, 0)
        check_range("anneal", self.anneal, above=0)
        check_range("price_offset", self.price_offset, above=0)


@dataclass(frozen=True)
class CriticParts:
    """What does not change while policy and critic learn.

    By default sequential decoding reveals positions together that cost it 0.02 nats at most.
    """

    config: ReplayConfig
    forcing: Forcing
    critic: CriticNetwork
    reference: Reference = field(default_factory=lambda: Reference(EntropyBound(0.02)))


Parts = VineParts | CriticParts
