"""Chronos-2 fine-tuned with LoRA on a market: what it sees, how it is trained, what is kept (SPEC B, C)."""
