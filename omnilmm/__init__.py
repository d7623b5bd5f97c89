"""OmniLMM Chat: talk about pictures with the MiniCPM-V / OmniLMM models on your own machine.

After `import omnilmm`, transformers' Auto classes load these checkpoints without any code of the hub. The registration
waits until transformers itself is imported: `--help` and the start of a page need neither torch nor transformers.
"""

import os
import sys
from typing import Any

import wrapt

__version__ = "0.1.0"

# Without this, huggingface_hub sends the hub a further request, for the list of agent programs that its user agent
# names. It reads the variable when it is imported.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")


@wrapt.when_imported("transformers")
def _register(_: Any) -> None:
    if sys.modules.get("torch", sys) is None:  # kept out, as by the process that renders chat templates
        return
    from omnilmm.models import auto  # noqa: F401  # importing it registers
