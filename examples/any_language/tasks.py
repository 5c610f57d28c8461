"""What the programs beside this file send to. Only the worker is in Python."""

from stoker import Stoker

app = Stoker("words")


@app.task(queue="words")
def count_words(text: str) -> dict[str, int]:
    """How often each word occurs."""
    words = text.lower().split()
    return {word: words.count(word) for word in sorted(set(words))}
