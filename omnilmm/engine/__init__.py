"""Loading, generation, streaming: from a conversation to events, without a word about pages."""
