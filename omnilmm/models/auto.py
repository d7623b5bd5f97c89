"""Registers our classes with transformers' Auto classes, where they win over code that a checkpoint brings along."""

from __future__ import annotations

from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from omnilmm.models.config import MiniCPMVConfig
from omnilmm.models.minicpmv import MiniCPMV
from omnilmm.models.processor import MiniCPMVProcessor

AutoConfig.register(MiniCPMVConfig.model_type, MiniCPMVConfig, exist_ok=True)
AutoModelForImageTextToText.register(MiniCPMVConfig, MiniCPMV, exist_ok=True)
AutoProcessor.register(MiniCPMVConfig, MiniCPMVProcessor, exist_ok=True)
