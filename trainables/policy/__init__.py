"""Trading policies: what they see, what they decide, and how decisions become orders (SPEC F)."""

from trainables.policy.decoding import Actions, decode

__all__ = ["Actions", "decode"]
