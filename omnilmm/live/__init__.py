"""Spoken conversation: voice activity detection, speech recognition, speech synthesis, and whose turn it is."""

ESPEAK = "espeak-ng"
VOICES = ("auto", "browser", ESPEAK, "none")
BROWSER = "browser"  # as a speech model: the browser's own recognition
SPEECH_MODEL = "openai/whisper-base"  # many languages, Chinese among them; 290 MB
