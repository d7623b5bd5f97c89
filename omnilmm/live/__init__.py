"""Spoken conversation: voice activity detection, speech recognition, speech synthesis, and whose turn it is."""

VOICES = ("auto", "browser", "espeak-ng", "none")
SPEECH_MODEL = "openai/whisper-base"  # many languages, Chinese among them; 290 MB
