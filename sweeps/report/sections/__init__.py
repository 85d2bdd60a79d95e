"""The sections of a report, each from what was gathered to markup; a part that cannot be said says why."""
