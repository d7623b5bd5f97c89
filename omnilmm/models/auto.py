"""Register our classes with transformers' Auto classes, where they take precedence over remote code of a checkpoint."""

from __future__ import annotations

from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from omnilmm.models.config import MiniCPMOConfig, MiniCPMVConfig, OmniLMMConfig
from omnilmm.models.minicpmv import MiniCPMO, MiniCPMV
from omnilmm.models.omnilmm12b import OmniLMMForCausalLM
from omnilmm.models.processor import MiniCPMOProcessor, MiniCPMVProcessor, OmniLMMProcessor

for config, model, processor in (
    (MiniCPMVConfig, MiniCPMV, MiniCPMVProcessor),
    (MiniCPMOConfig, MiniCPMO, MiniCPMOProcessor),
    (OmniLMMConfig, OmniLMMForCausalLM, OmniLMMProcessor),
):
    AutoConfig.register(config.model_type, config, exist_ok=True)
    AutoModelForImageTextToText.register(config, model, exist_ok=True)
    AutoProcessor.register(config, processor, exist_ok=True)
