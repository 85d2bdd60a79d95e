"""The look-ahead audit: change the future, and what was decided before must not move (SPEC J)."""

from __future__ import annotations

from trainables.audit.examine import CHECKS, audit
from trainables.audit.report import AuditReport, Finding
from trainables.audit.stages import AuditError, FromPanel, Stage, Traceable, WithEquity
from trainables.audit.statistics import implausible
from trainables.audit.stepped import audit_steps

__all__ = [
    "CHECKS",
    "AuditError",
    "AuditReport",
    "Finding",
    "FromPanel",
    "Stage",
    "Traceable",
    "WithEquity",
    "audit",
    "audit_steps",
    "implausible",
]
