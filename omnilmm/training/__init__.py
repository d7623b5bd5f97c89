"""Fine-tuning: `python -m omnilmm.training check | train | merge`; see docs/fine-tuning.md."""
