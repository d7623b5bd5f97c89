"""An OpenAI-compatible API for any engine: `/v1/models`, `/v1/chat/completions`, `/health`.

JSON ── schema ── requests ──> Conversation, Options ── Engine.stream ──> events ── replies ──> JSON, or chunks
"""
