"""Utterances are cut out of a microphone's sound, by hand and by the real voice detector, and their words are found."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration, WhisperTokenizer

from omnilmm.errors import MissingPackageError, ModelNotFoundError
from omnilmm.live import detection, recognition
from omnilmm.live.detection import detector
from omnilmm.live.hearing import CHUNK, MOST_CHUNKS, MOST_S, RATE, Hearing, Sound, Started, Utterance
from omnilmm.live.recognition import Recogniser, load_recogniser
from tests.guarded import guarded_calls
from tests.live.sounds import WORDS, chunks, noise, silence, spoken


def heard(hearing: Hearing, sound: list[bytes]) -> Iterator[tuple[int, Started | Utterance]]:
    for number, chunk in enumerate(sound):
        if found := hearing.feed(chunk):
            yield number, found


def test_held_key_gives_exactly_what_was_said_meanwhile() -> None:
    hearing, sound = Hearing(), spoken("what_shape")
    assert hearing.feed(chunks(sound)[0]) is None, "nothing is recorded before the key is pressed"
    hearing.press()
    assert not list(heard(hearing, chunks(sound)))
    found = hearing.release()
    assert found is not None and found.sound is not None
    np.testing.assert_array_equal((found.sound * 32768).astype(np.int16), sound[: len(sound) // CHUNK * CHUNK])
    assert hearing.release() is None


def test_a_click_is_no_utterance() -> None:
    hearing = Hearing()
    hearing.press()
    hearing.feed(chunks(spoken("what_shape"))[0])
    assert hearing.release() == Utterance(None)


def test_a_held_key_without_a_voice_is_no_utterance() -> None:
    hearing = Hearing(detector())
    for sound, is_speech in ((noise(1.5), False), (spoken("what_shape"), True), (silence(1), False)):
        hearing.press()
        assert not list(heard(hearing, chunks(sound)))
        found = hearing.release()
        assert found is not None and (found.sound is not None) == is_speech


def test_an_utterance_ends_at_its_longest() -> None:
    hearing = Hearing()
    hearing.press()
    (number, found), *more = heard(hearing, chunks(silence(MOST_S + 5)))
    assert isinstance(found, Utterance) and found.sound is not None and not more
    assert MOST_S * RATE - CHUNK < len(found.sound) <= MOST_S * RATE and number == MOST_CHUNKS - 1


def test_hands_free_finds_the_words_between_noise_and_silence(recogniser: Recogniser) -> None:
    new = detector()
    assert new is not None
    hearing = Hearing(new)
    hearing.set_hands_free(True)
    before, question, between = noise(1.5), spoken("what_color"), silence(1)
    sound = chunks(before, question, between, spoken("what_shape"), silence(1), noise(1.5))
    found = list(heard(hearing, sound))
    kinds = [type(one) for _, one in found]
    assert kinds == [Started, Utterance, Started, Utterance], "noise and silence say nothing"
    words = [
        recogniser.words(one.sound, "en") for _, one in found if isinstance(one, Utterance) and one.sound is not None
    ]
    assert words == [WORDS["what_color"], WORDS["what_shape"]]
    onset = np.flatnonzero(np.abs(question) > 1000)[0]
    start_s = (found[0][0] + 1) * CHUNK / RATE - (len(before) + onset) / RATE
    assert 0 < start_s <= 0.2, "speaking interrupts an answer within 200 ms"
    end_s = found[1][0] * CHUNK / RATE - (len(before) + len(question)) / RATE
    assert end_s <= 0.5, "the end of speech is noticed within half a second"


def test_without_a_detector_there_is_no_hands_free() -> None:
    hearing = Hearing(None)
    hearing.set_hands_free(True)
    assert not hearing.can_be_hands_free and not list(heard(hearing, chunks(spoken("what_color"), silence(1))))


def test_the_detector_leaves_the_threads_of_the_model_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even if it is loaded twice at once: the second one would find those of the package, and restore them."""
    before = torch.get_num_threads()
    try:
        import silero_vad

        load = silero_vad.load_silero_vad
        monkeypatch.setattr(silero_vad, "load_silero_vad", lambda: torch.set_num_threads(1) or load())
        alone = guarded_calls(monkeypatch, silero_vad, "load_silero_vad", detection._LOADING.locked)
        torch.set_num_threads(2)
        detector()
        assert torch.get_num_threads() == 2 and alone == [True]
    finally:
        torch.set_num_threads(before)


# --- recognisers ------------------------------------------------------------------------------------------------------


def test_no_recogniser_is_a_choice() -> None:
    assert load_recogniser("none") is None


@pytest.mark.parametrize("name", ["pocketsphinx:/no/such.jsgf", "/no/such/folder"])
def test_what_cannot_be_loaded_is_reported_in_one_line(name: str) -> None:
    with pytest.raises(ModelNotFoundError) as raised:
        load_recogniser(name, offline=True)
    assert name.partition(":")[2] in str(raised.value) and "\n" not in str(raised.value)


def test_a_missing_package_is_reported_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recognition, "find_spec", lambda _: None)
    with pytest.raises(MissingPackageError, match="pip install pocketsphinx"):
        load_recogniser("pocketsphinx")


def test_one_utterance_is_recognised_at_a_time(recogniser: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def step(*_: object, **__: object) -> None:
        alone.append(recogniser._lock.locked())

    alone: list[bool] = []
    decoder = SimpleNamespace(start_utt=step, process_raw=step, end_utt=step, hyp=step)
    monkeypatch.setattr(recogniser, "_decoder", decoder)
    assert recogniser.words(np.zeros(CHUNK, np.float32), "en") == "" and alone == [True] * 4


@pytest.fixture
def tiny_whisper(tmp_path: Path) -> Path:
    """A Whisper of random weights in the hub's form; its words mean nothing, its way is the real one."""
    letters = {sign: number for number, sign in enumerate(map(chr, range(33, 97)))}
    (tmp_path / "vocab.json").write_text(json.dumps(letters), encoding="utf-8")
    (tmp_path / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    tokenizer = WhisperTokenizer(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt"))
    size = len(tokenizer)
    ends = {name: tokenizer.convert_tokens_to_ids("<|endoftext|>") for name in ("bos", "eos", "pad", "decoder_start")}
    config = WhisperConfig(
        vocab_size=size,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        num_mel_bins=80,
        max_target_positions=32,
        suppress_tokens=[],
        begin_suppress_tokens=[],
        **{f"{name}_token_id": number for name, number in ends.items()},
    )
    torch.manual_seed(0)
    model = WhisperForConditionalGeneration(config)
    model.generation_config.max_length = 16
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save_pretrained(tmp_path)
    WhisperFeatureExtractor(feature_size=80).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


def test_a_model_of_transformers_recognises(tiny_whisper: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: Any = load_recogniser(str(tiny_whisper), offline=True)
    alone = guarded_calls(monkeypatch, loaded, "_recognise", loaded._lock.locked)
    sound: Sound = spoken("what_shape").astype(np.float32) / 32768
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        words = loaded.words(sound, "en")
    assert isinstance(words, str) and words == loaded.words(sound, "en")
    assert alone == [True, True]
