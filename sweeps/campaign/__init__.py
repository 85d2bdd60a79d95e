"""Campaigns: studies as stages, where what one has found is what the next begins with."""
