"""What the contract kit lets an encoder read: short sentences for forward passes, many scripts for its tokenizer."""

from __future__ import annotations

import unicodedata

__all__ = ["PAIR", "SCRIPTS", "SENTENCES", "visible"]

SENTENCES = (
    "The ship left Hamburg on 3 May 2021, at 7:45 p.m.",
    "Größe und Gewicht (in kg) müssen übereinstimmen.",
    "Корабль прибыл в порт Мурманска вчера вечером.",
    "وصلت السفينة إلى الميناء أمس.",
    "船は昨日の夜、横浜港に到着しました。",
    "这艘船昨天晚上到达了上海港。",
    "배는 어제 저녁 부산항에 도착했습니다.",
    "เรือมาถึงท่าเรือเมื่อคืนนี้",
    "जहाज कल शाम मुंबई पहुँचा।",
    "Το πλοίο έφτασε χθες στον Πειραιά.",
    "Tàu đã đến cảng Hải Phòng tối qua.",
    "A ﬁne ship № ① — 5 ㎏ 🚢",
)
"""One sentence per script, and one whose compatibility characters a normaliser lengthens and shortens."""
PAIR = ("It rained.", "The road is wet.", "The road is dry.")
"""A text and two to pair it with, short enough for any encoder."""
SCRIPTS = {
    "Latin": SENTENCES[0],
    "Latin with umlauts": SENTENCES[1],
    "Latin with stacked marks": SENTENCES[10],
    "Latin with combining marks": unicodedata.normalize("NFD", "Le café près du phare a été fermé à Noël."),
    "Cyrillic": SENTENCES[2],
    "Greek": SENTENCES[9],
    "Armenian": "Նավը երեկ երեկոյան նավահանգիստ հասավ։",
    "Georgian": "გემი გუშინ საღამოს ნავსადგურში შევიდა.",
    "Arabic": SENTENCES[3],
    "Arabic with vowel signs and digits": "وَصَلَتِ السَّفِينَةُ MSC رقم 12 أمس.",
    "Hebrew": "הספינה הגיעה אתמול בערב לנמל חיפה.",
    "Ethiopic": "መርከቡ ትናንት ማታ ወደብ ደረሰ።",
    "Devanagari": SENTENCES[8],
    "Bengali": "জাহাজটি গতকাল সন্ধ্যায় বন্দরে পৌঁছেছে।",
    "Gujarati": "વહાણ ગઈકાલે સાંજે બંદરે પહોંચ્યું.",
    "Tamil": "கப்பல் நேற்று மாலை துறைமுகத்தை அடைந்தது.",
    "Telugu": "ఓడ నిన్న సాయంత్రం ఓడరేవుకు చేరుకుంది.",
    "Thai": SENTENCES[7],
    "Khmer": "កប៉ាល់បានមកដល់កំពង់ផែកាលពីយប់មិញ",
    "Burmese": "သင်္ဘောသည် မနေ့ညက ဆိပ်ကမ်းသို့ ရောက်ရှိခဲ့သည်။",
    "Chinese": SENTENCES[5],
    "Japanese": SENTENCES[4],
    "Hangul": SENTENCES[6],
    "emoji sequences": "Crew 👩🏽‍🚒 and 👨‍👩‍👧‍👦 under 🏳️‍🌈 with ❤️ to 🇩🇪.",
    "compatibility characters": SENTENCES[11],
}
"""Texts for the tokenizer alone: it need not know a script, but must say where each of its tokens stands."""


def visible(text: str) -> list[int]:
    """Places of the characters that offsets must hold.

    Left out are spaces, joiners and other format characters, variation selectors, and accents that Unicode composes with
    their letter: normalisers fold them, and the offset is then often the letter's alone (sentencepiece's, in XLM-R and
    mT5). Vowel signs of Indic scripts, Arabic and Thai compose with nothing, so they count.
    """
    places, letter = [], ""
    for place, character in enumerate(text):
        composed = unicodedata.normalize("NFC", letter + character)
        if letter and unicodedata.combining(character) and len(composed) == 1:
            letter = composed
            continue
        letter = character
        skipped = character.isspace() or "\ufe00" <= character <= "\ufe0f"
        if not skipped and unicodedata.category(character) != "Cf":
            places.append(place)
    return places
