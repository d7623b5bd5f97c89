"""Exports a checkpoint for other programs: `gguf` for llama.cpp and everything built on it.

    config.json, tensors, tokenizer ──> language model .gguf  +  mmproj .gguf (vision tower and resampler)

`tensors` reads the weights one at a time, `vocabulary` and `template` the tokenizer and the prompt, `language` and
`vision` name everything as llama.cpp does, `writing` writes a file, and `checking` compares both engines' answers.
"""
