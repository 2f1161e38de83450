"""Flags among the words of a command line, before it is parsed."""


def find(words: list[str], flag: str) -> tuple[int, int, str | None]:
    """Where `--flag value` or `--flag=value` stands: first word, one past the last, value.

    Raises:
      ValueError: the flag is the last word.
    """
    for i, word in enumerate(words):
        if word == flag:
            if i + 1 == len(words):
                raise ValueError(f"{flag} needs a value")
            return i, i + 2, words[i + 1]
        if word.startswith(flag + "="):
            return i, i + 1, word[len(flag) + 1 :]
    return 0, 0, None


def take(words: list[str], flag: str) -> tuple[str | None, list[str]]:
    """The flag's value, and the words without it."""
    start, stop, value = find(words, flag)
    return value, words[:start] + words[stop:]


def peek(words: list[str], flag: str) -> str | None:
    """The flag's value; the words keep it."""
    return find(words, flag)[2]
