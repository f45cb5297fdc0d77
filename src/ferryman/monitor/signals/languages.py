"""Guess the language of a text from its letters and its most frequent words: enough to see a mix of them change."""

import re
from unicodedata import normalize

import numpy as np

# Blocks of Unicode by their first code point, in order; "" is what belongs to no script.
_BLOCKS = (
    (0x0000, ""), (0x0041, "latin"), (0x005B, ""), (0x0061, "latin"), (0x007B, ""), (0x00C0, "latin"),
    (0x0250, ""), (0x0370, "el"), (0x0400, "cyrillic"), (0x0530, "hy"), (0x0590, "he"), (0x0600, "arabic"),
    (0x0700, ""), (0x0900, "devanagari"), (0x0980, "bn"), (0x0A00, ""), (0x0B80, "ta"), (0x0C00, "te"), (0x0C80, ""),
    (0x0E00, "th"), (0x0E80, ""), (0x10A0, "ka"), (0x1100, "ko"), (0x1200, ""), (0x1E00, "latin"), (0x1F00, "el"),
    (0x2000, ""), (0x3040, "ja"), (0x3100, ""), (0x3400, "zh"), (0xA000, ""), (0xAC00, "ko"), (0xD7B0, ""),
    (0xF900, "zh"), (0xFB00, ""), (0x20000, "zh"), (0x30000, ""),
)  # fmt: skip
_STARTS = np.asarray([start for start, _ in _BLOCKS])
_SCRIPTS = sorted({script for _, script in _BLOCKS})
_SCRIPT_OF = np.asarray([_SCRIPTS.index(script) for _, script in _BLOCKS])

_FREQUENT = {
    "en": "the and of to in is that for it with was on are this as be by have not you from or at which",
    "de": "der die das und ist nicht ein eine zu den mit von auf im sich des dem auch es werden oder als wird",
    "fr": "le la les et des est un une dans pour que qui sur pas du au par ce il sont ne aux ou de en tous l d",
    "es": "el la los las y de que en un una por con para es no se del al lo como su sin son toda",
    "it": "il di che la e per un una non con del della sono le i gli si da nel come al ogni dei in",
    "pt": "o a os as e de que do da em um uma para com nao por se no na dos mais ao sem todo",
    "nl": "de het een en van is dat niet op te in voor met zijn aan er ook als bij door die wordt of",
    "sv": "och att det som en ett av den inte med till har var om jag men eller de sig utan alla",
    "da": "og at det som en et af den ikke med til har er for jeg men eller de sig uden alle i",
    "pl": "i w na nie z do to jest sie od przez za po oraz dla co tak jak ale czy lub ich",
    "cs": "a v na je se ze to s z do pro aby jako ale nebo bez byl jsou ktery jejich k o",
    "ro": "si de in la cu nu este pe un o din care pentru sa se mai ce al ale prin sunt fi",
    "hu": "a az es hogy nem egy is van meg ez mint de csak vagy minden szerint kell volt sem lehet",
    "fi": "ja on ei se oli mutta kuin hanen tai ovat joka kanssa myos niin ole kaikki kun jos",
    "tr": "ve bir bu da de icin ile olarak her olan daha gibi ne ya veya sahip hak ki en",
    "id": "yang dan di itu dengan untuk tidak ini dari dalam akan pada adalah atau oleh setiap orang",
    "vi": "va cua la co khong cho duoc trong mot nguoi cac nhung voi hoac nay moi deu phai ve tu",
}
_LANGUAGES = tuple(_FREQUENT)
_SPOKEN: dict[str, tuple[int, ...]] = {}  # which languages have a word among their frequent ones
for _place, _words in enumerate(_FREQUENT.values()):
    for _each in set(_words.split()):
        _SPOKEN[_each] = (*_SPOKEN.get(_each, ()), _place)
_WORD = re.compile(r"[^\W\d_]+")
_MARK = re.compile(r"[\u0300-\u036f]")
_WITHOUT_MARKS = str.maketrans("\u0131\u0142\u00f8\u0111", "ilod")


def guess_language(text: str) -> str:
    """Give a code (ISO 639-1) or, where frequent words don't tell, the script; "none" for a text without letters."""
    points = np.frombuffer(text.encode("utf-32-le", "replace"), np.uint32)
    scripts = np.bincount(_SCRIPT_OF[np.searchsorted(_STARTS, points, "right") - 1], minlength=len(_SCRIPTS))
    counts = dict(zip(_SCRIPTS, scripts.tolist(), strict=True))
    counts.pop("", None)
    if not any(counts.values()):
        return "none"
    if counts["ja"] * 10 >= counts["zh"] > 0:
        return "ja"
    script = max(counts, key=lambda name: counts[name])
    return _by_words(text) if script == "latin" else script


def _by_words(text: str) -> str:
    bare = _MARK.sub("", normalize("NFD", text.lower())).translate(_WITHOUT_MARKS)
    words = _WORD.findall(bare)
    hits = [0] * len(_LANGUAGES)
    for word in words:
        for place in _SPOKEN.get(word, ()):
            hits[place] += 1
    first, second = sorted(range(len(hits)), key=lambda place: -hits[place])[:2]
    is_clear = hits[first] > hits[second] and hits[first] >= max(1, len(words) * 0.1)
    return _LANGUAGES[first] if is_clear else "latin"
