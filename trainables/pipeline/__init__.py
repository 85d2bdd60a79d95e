"""Trainables made of stages: all their parameters are searched together, and configurations that share a beginning share its work."""

from trainables.pipeline.pipeline import Pipeline, PipelineInputs
from trainables.pipeline.stage import LastStage, Shares, Stage, StageError

__all__ = ["LastStage", "Pipeline", "PipelineInputs", "Shares", "Stage", "StageError"]
