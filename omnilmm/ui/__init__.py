"""The two web pages and the terminal chat, with the sessions, texts and controls that they share."""
