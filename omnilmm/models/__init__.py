"""Vision towers, resampler and language models, with the tensor names of the published checkpoints."""

# Import transformers before any module of this package: the import triggers the registration of these classes, which
# must not happen halfway through the import of one of them.
import transformers  # noqa: F401
