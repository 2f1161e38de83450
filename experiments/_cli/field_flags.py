"""The field's own flags, said in ours: `--alg entropy --steps 64` and the like.

LLaDA and Fast-dLLM:
  --steps N                    policy:top-confidence --policy.steps N
  --steps N --remasking random policy:random --policy.steps N
  --threshold X                policy:confidence-threshold --policy.threshold X
  --factor X                   policy:factor --policy.factor X
Dream, with its counts, seeing the distribution that tokens are drawn from, and a budget to match:
  --alg maskgit_plus           policy:top-confidence
  --alg topk_margin            policy:top-margin
  --alg entropy                policy:low-entropy
  --alg origin                 policy:ancestral
  --alg_temp X                 policy:perturbed around one of the first three
  --alg confidence_threshold   policy:threshold-quota
Both:
  --gen_length N               --task.gen_length N
  --cfg_scale X                --guidance X
--temperature, --top_p, --top_k and --block_length mean the same here and there.
"""

from experiments._cli.flags import take

FLAGS = ("steps", "remasking", "threshold", "factor", "alg", "alg_temp")
BY_REMASKING = {"low_confidence": "top-confidence", "random": "random"}
BY_SCORE = {"maskgit_plus": "top-confidence", "topk_margin": "top-margin", "entropy": "low-entropy"}
BY_ALG = {**BY_SCORE, "origin": "ancestral", "confidence_threshold": "threshold-quota"}
Given = dict[str, str]


def translate(words: list[str]) -> list[str]:
    """A command line with the field's flags replaced by ours; all other words stay as they are.

    Raises:
      ValueError: a flag without a value or where it means nothing, a name that is none of the field's,
        or a policy:NAME beside them.
    """
    length, words = take(words, "--gen_length")
    weight, words = take(words, "--cfg_scale")
    given: Given = {}
    for flag in FLAGS:
        value, words = take(words, f"--{flag}")
        given |= {} if value is None else {flag: value}
    ours = [] if length is None else ["--task.gen_length", length]
    ours += [] if weight is None else ["--guidance", weight]
    if not given:
        return words + ours
    if any(word.startswith(("policy:", "--policy.")) for word in words):
        raise ValueError(f"give {_shown(given)} or a policy:NAME with its knobs, not both")
    said = _dream(given, length, words) if "alg" in given else _llada(given)
    if given:
        raise ValueError(f"{_shown(given)} means nothing beside the other flags")
    return words + ours + said


def _llada(given: Given) -> list[str]:
    """The policy of LLaDA's and Fast-dLLM's flags; those that count are taken out of `given`."""
    name = _one_of(BY_REMASKING, "remasking", given.pop("remasking", "low_confidence"))
    steps = given.pop("steps", None)  # which an adaptive rule has no use for
    if "threshold" in given:
        return ["policy:confidence-threshold", "--policy.threshold", given.pop("threshold")]
    if "factor" in given:
        return ["policy:factor", "--policy.factor", given.pop("factor")]
    if steps is None:
        raise ValueError("give --steps, --threshold or --factor too")
    return [f"policy:{name}", "--policy.steps", steps]


def _dream(given: Given, length: str | None, words: list[str]) -> list[str]:
    """The policy and settings of Dream's flags; those that count are taken out of `given`."""
    alg = given.pop("alg")
    name = _one_of(BY_ALG, "alg", alg)
    if "steps" not in given:
        raise ValueError(f"--alg {alg} needs --steps")
    steps = given.pop("steps")
    knobs = ["--policy.steps", steps, "--policy.schedule", "dream"]
    budget = steps
    if alg == "confidence_threshold":
        knobs = ["--policy.steps", steps, "--policy.threshold", given.pop("threshold", "0.9")]
        budget = str(int(steps) + int(length or steps))  # what it rejects takes further calls
    elif alg in BY_SCORE and "alg_temp" in given:
        base = [word.replace("--policy", "--policy.base") for word in knobs]
        knobs = ["--policy.policy_temperature", given.pop("alg_temp"), f"policy.base:{name}", *base]
        name = "perturbed"
    settings = ["--policy_sees_draw"]
    if not any(word.split("=")[0] == "--budget" for word in words):
        settings += ["--budget", budget]
    return [*settings, f"policy:{name}", *knobs]


def _one_of(names: dict[str, str], flag: str, name: str) -> str:
    if name not in names:
        raise ValueError(f"--{flag} {name!r} is none of {', '.join(names)}")
    return names[name]


def _shown(given: Given) -> str:
    return " ".join(f"--{flag} {value}" for flag, value in given.items())
