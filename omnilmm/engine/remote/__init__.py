"""An engine that forwards conversations to an OpenAI-compatible server.

Conversation ── messages ──> JSON ── client ──> server-sent events ── answer ──> events

`dialects` holds what differs between servers, as data.
"""
