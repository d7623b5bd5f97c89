"""Caches kept between requests, bounded in bytes: image features, KV caches of conversations, states after pictures."""
