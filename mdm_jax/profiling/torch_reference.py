"""The training step of an equal transformer in eager PyTorch, for comparison: an optional package.

Same shape, loss and optimiser as `step_cost.Workload`: RMSNorm, rotary positions, SwiGLU, fused attention
and fused AdamW, clipping by global norm, an exponential average of the parameters.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any

from mdm_jax.denoisers.transformer import TransformerConfig
from mdm_jax.errors import MdmError
from mdm_jax.profiling.step_cost import Workload, denoiser_calls, training_step
from mdm_jax.profiling.timing import compile_job, interleaved

CLIP, DECAY = 1.0, 0.999


def compare(work: Workload, repeats: int) -> str:
    """Our training step and denoiser call over those of eager PyTorch, a sentence per line.

    Raises:
      MdmError: PyTorch is not installed.
    """
    torch = load_torch()
    network = _network(torch, work.model, work.vocab, work.length)
    jobs = {
        "our step": training_step(work),
        "their step": _training_step(torch, network, work),
        "our calls": denoiser_calls(work),
        "their calls": _denoiser_calls(torch, network, work),
    }
    for job in jobs.values():
        compile_job(job)
    times = interleaved(jobs, repeats)
    step, calls = (times[f"our {name}"] / times[f"their {name}"] for name in ("step", "calls"))
    return (
        f"training step / training step of eager PyTorch: {step:.3f}\n"
        f"denoiser call / denoiser call of eager PyTorch: {calls:.3f}"
    )


def load_torch() -> Any:
    """The package `torch`.

    Raises:
      MdmError: it is not installed.
    """
    try:
        return import_module("torch")
    except ImportError as missing:
        raise MdmError(
            "PyTorch is not installed; `pip install torch`, or leave out the comparison with it"
        ) from missing


def _training_step(torch: Any, network: Any, work: Workload) -> Callable[[], Any]:
    """A function that makes one update on a batch, and returns its loss."""
    average = [x.detach().clone() for x in network.parameters()]
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=1e-4, betas=(0.9, 0.99), weight_decay=0.01, fused=True
    )
    tokens = torch.zeros((work.batch_size, work.length), dtype=torch.long)

    def step() -> Any:
        loss = _any_order_loss(torch, network, tokens, work.ids.mask)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), CLIP)
        optimizer.step()
        torch._foreach_lerp_(average, list(network.parameters()), 1 - DECAY)
        return loss.item()

    return step


def _denoiser_calls(torch: Any, network: Any, work: Workload) -> Callable[[], Any]:
    """A function that makes as many denoiser calls as `step_cost.denoiser_calls`."""
    canvases = torch.full((work.batch_size, work.length), work.ids.mask)

    def calls() -> Any:
        with torch.no_grad():
            return [network(canvases).max().item() for _ in range(work.steps)]

    return calls


def _any_order_loss(torch: Any, network: Any, tokens: Any, mask_id: int) -> Any:
    """The bound of `objectives.AnyOrder`, nats per token, at stratified times."""
    batch, length = tokens.shape
    times = (torch.arange(batch) + torch.rand(())) / batch
    counts = torch.clamp(torch.ceil(times * length), min=1)
    ranks = torch.rand(batch, length).argsort(1).argsort(1)
    is_masked = ranks < counts[:, None]
    logits = network(torch.where(is_masked, mask_id, tokens))
    nll = torch.nn.functional.cross_entropy(logits.transpose(1, 2), tokens, reduction="none")
    return ((nll * is_masked).sum(1) * length / counts).sum() / tokens.numel()


def _network(torch: Any, model: TransformerConfig, vocab: int, length: int) -> Any:
    """The transformer of `model`, [batch, length] ids to logits."""
    nn, heads, dim = torch.nn, model.heads, model.width // model.heads
    frequencies = model.rope_base ** (-torch.arange(dim // 2) / (dim // 2))
    angles = torch.arange(length)[:, None] * frequencies
    cos, sin = torch.cos(angles), torch.sin(angles)

    def linear(inputs: int, outputs: int) -> Any:
        return nn.Linear(inputs, outputs, bias=False)

    def rotate(x: Any) -> Any:
        first, second = x.chunk(2, dim=-1)
        return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            width, inner = model.width, model.mlp_width
            self.query, self.key, self.value, self.out = (linear(width, width) for _ in range(4))
            self.gate, self.up, self.down = (
                linear(width, inner),
                linear(width, inner),
                linear(inner, width),
            )
            self.attention_norm, self.mlp_norm = (nn.RMSNorm(width, eps=1e-5) for _ in range(2))
            self.query_norm, self.key_norm = (
                nn.RMSNorm(dim, eps=1e-5) if model.qk_norm else nn.Identity() for _ in range(2)
            )

        def forward(self, x: Any) -> Any:
            h = self.attention_norm(x)
            query, key, value = (
                project(h).unflatten(-1, (heads, dim))
                for project in (self.query, self.key, self.value)
            )
            query, key = self.query_norm(query), self.key_norm(key)
            query, key, value = (x.transpose(1, 2) for x in (query, key, value))
            mixed = nn.functional.scaled_dot_product_attention(rotate(query), rotate(key), value)
            x = x + self.out(mixed.transpose(1, 2).flatten(2))
            h = self.mlp_norm(x)
            return x + self.down(nn.functional.silu(self.gate(h)) * self.up(h))

    return nn.Sequential(
        nn.Embedding(vocab + 2, model.width),
        *(Block() for _ in range(model.depth)),
        nn.RMSNorm(model.width, eps=1e-5),
        linear(model.width, vocab),
    )
