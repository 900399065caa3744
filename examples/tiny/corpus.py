"""Turn the licences every Debian system carries into clean prose and short conversations to train on."""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

LICENSES = Path("/usr/share/common-licenses")
FILES = (
    *("Apache-2.0", "Artistic", "BSD", "CC0-1.0", "GFDL-1.2", "GFDL-1.3", "GPL-1", "GPL-2", "GPL-3"),
    *("LGPL-2", "LGPL-2.1", "LGPL-3", "MPL-1.1", "MPL-2.0"),
)
HELD_OUT_EVERY = 24  # one paragraph in so many is never trained on
OVERLAP_WORDS = 12  # training text shares no run of so many words with held-out text
PASSAGE_CHARACTERS = 1200
ANSWER_CHARACTERS = 170

# Conversations are about every term the licences define and these words, spelt as they spell them.
TOPICS = (
    *("free software", "freedom", "price", "source code", "object code", "warranty", "copyright", "patent"),
    *("distribution", "permission", "notice", "fee", "liability", "damages", "terminate", "propagate", "trademark"),
    *("Public Domain", "Transparent", "Corresponding Source", "modified version", "translation", "aggregate"),
)
QUESTIONS = ("What is {}?", "Tell me about {}.", "What does the license say about {}?", "Explain {}.")
DEFINITION = re.compile(r'(?:An? |The )?"([^"]{3,40})" (?:shall )?(?:means?|refers?|is|are)\b')


@dataclass(frozen=True, slots=True)
class Corpus:
    """What to train on and what to measure with; both are lists of documents."""

    passages: tuple[str, ...]
    conversations: tuple[tuple[str, str, str], ...]  # subject, question, answer
    held_out: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Equal digests, equal training: another release of Debian may carry other licences."""
        return hashlib.sha256(repr((self.passages, self.conversations, self.held_out)).encode()).hexdigest()


def read(folder: Path = LICENSES) -> Corpus:
    """The corpus of the licences in `folder`; FileNotFoundError names a licence that is not there."""
    texts = [paragraphs((folder / name).read_text(encoding="utf-8")) for name in FILES]
    long = [text for document in texts for text in document if len(text) > 200]
    held_out = tuple(long[::HELD_OUT_EVERY])
    forbidden = set().union(*map(runs, held_out))
    seen: set[str] = set()
    passages: list[str] = []
    sentences: list[str] = []
    for document in texts:
        kept = [text for text in document if text not in seen and not runs(text) & forbidden]
        seen.update(kept)
        passages += joined(kept)
        sentences += [sentence for text in kept for sentence in split_sentences(text)]
    return Corpus(tuple(passages), tuple(conversations(sentences)), held_out)


def paragraphs(text: str) -> list[str]:
    """Unwrapped paragraphs, one space between words, plain quotes, nothing without a word in it."""
    text = text.expandtabs().replace("\f", "\n").replace("*", " ").replace("``", '"').replace("''", '"')
    blocks = (" ".join(block.split()) for block in re.split(r"\n\s*\n", text))
    return [block for block in blocks if re.search(r"[A-Za-z]{3}", block)]


def runs(text: str) -> set[tuple[str, ...]]:
    """Every run of OVERLAP_WORDS words of `text`, in lower case."""
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[i : i + OVERLAP_WORDS]) for i in range(len(words) - OVERLAP_WORDS + 1)}


def joined(texts: Iterable[str]) -> Iterator[str]:
    """Consecutive paragraphs put together, a blank line between them, until a passage is full."""
    passage = ""
    for text in texts:
        passage = f"{passage}\n\n{text}" if passage else text
        if len(passage) >= PASSAGE_CHARACTERS:
            yield passage
            passage = ""
    if passage:
        yield passage


def split_sentences(text: str) -> list[str]:
    """Whole sentences fit to be an answer: not a heading, not shouted, without a blank to fill in."""
    text = re.sub(r"(?:^|\s)(?:\d+(?:\.\d+)*\.|\(?[a-z0-9]\)|[a-z]\.)(?=\s|$)", " ", text)
    parts = (part.strip() for part in re.split(r'(?<=[.!?])\s+(?=["A-Z])', text))
    return [part for part in parts if re.match(r'"?[A-Z].{50,}\.$', part) and "__" not in part and not shouted(part)]


def shouted(text: str) -> bool:
    return sum(map(str.isupper, text)) > len(text) / 5


def conversations(sentences: list[str]) -> Iterator[tuple[str, str, str]]:
    """(subject, question, answer) for every definition, then for every topic: the sentence that speaks of it most."""
    answers = [sentence for sentence in dict.fromkeys(sentences) if len(sentence) <= ANSWER_CHARACTERS]
    for answer in answers:
        if found := DEFINITION.match(answer):
            subject = found[1].rstrip(",").removeprefix("the ")
            yield from ((subject, question.format(subject), answer) for question in QUESTIONS)
    for topic in TOPICS:
        about = [answer for answer in answers if topic in answer]
        for answer in sorted(about, key=lambda text: text.count(topic) / len(text), reverse=True)[:1]:
            yield from ((topic, question.format(topic), answer) for question in QUESTIONS)
