"""A masked diffusion model as lm-evaluation-harness wants it, which has to be installed (`lm_eval`)."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from lm_eval.api.model import LM

from mdm_jax.evals.text_model import TextModel
from mdm_jax.runs.description import digest
from mdm_jax.runs.reporter import Progress


class HarnessModel(LM):
    """The harness's interface of a text model; a subclass says how its arguments are read.

    Attributes:
      model: what answers.
      progress: shows how far the generation is.
    """

    model: TextModel
    progress: Progress

    @classmethod
    @abstractmethod
    def from_words(cls, words: list[str]) -> "HarnessModel":
        """The model that flags describe: --NAME VALUE for each model argument, and policy:NAME."""

    @classmethod
    def create_from_arg_obj(
        cls, arg_dict: Mapping[str, Any], additional_config: Mapping[str, Any] | None = None
    ) -> "HarnessModel":
        """The model of the harness's own command line; its device is the one JAX finds."""
        given = dict(arg_dict)
        size = (additional_config or {}).get("batch_size")
        if size is not None and str(size).isdigit():
            given.setdefault("batch_size", size)
        policy = given.pop("policy", None)
        words = [] if policy is None else [f"policy:{policy}"]
        words += [word for name, value in given.items() for word in (f"--{name}", str(value))]
        return cls.from_words(words)

    @classmethod
    def create_from_arg_string(
        cls, arg_string: str, additional_config: Mapping[str, Any] | None = None
    ) -> "HarnessModel":
        """The same for `name=value,...`."""
        pairs = [pair.partition("=") for pair in arg_string.split(",") if pair]
        return cls.create_from_arg_obj({name: value for name, _, value in pairs}, additional_config)

    @property
    def tokenizer_name(self) -> str:
        """Of the harness's cache of requests: another tokenizer or template has another name."""
        return f"{self.model.tokenizer.where.name}-{digest(self.model.tokenizer.identity())}"

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """The conversation as text; it always ends where the answer begins."""
        return self.model.tokenizer.chat(chat_history)

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """One response to each (context, {"until": [...]})."""
        prompts = [request.args[0] for request in requests]
        stops = [request.args[1].get("until", ()) for request in requests]
        with self.progress("generating", len(requests)) as advance:
            return self.model.complete(prompts, stops, advance)

    def loglikelihood(
        self, requests: Sequence[Any], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """The any-order bound on log p(continuation | context) of each pair, nats.

        Whether a continuation is the greedy one depends on the policy, so none is called greedy.
        """
        contexts, continuations = zip(*(request.args for request in requests), strict=True)
        return [(bound, False) for bound in self.model.log_likelihoods(contexts, continuations)]

    def loglikelihood_rolling(
        self, requests: Sequence[Any], disable_tqdm: bool = False
    ) -> list[float]:
        """The any-order bound on log p(text) of each text, nats."""
        return self.model.text_log_likelihoods([request.args[0] for request in requests])
