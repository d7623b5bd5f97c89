"""Vision tower, resampler, language model, under the tensor names of the published checkpoints."""

# Before any module of this package: its arrival makes `omnilmm` register them, which must not happen half-way into one.
import transformers  # noqa: F401
