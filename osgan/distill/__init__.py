"""Data-free adversarial distillation in one stage: a student learns from a teacher on images that a generator makes."""

from osgan.extras import needed

with needed("train"):
    from osgan.distill.cost import predict_speedup
    from osgan.distill.losses import DistillationLoss, TeacherOutputs
    from osgan.distill.run import Distillation, Point, distill
    from osgan.distill.schemes import (
        SCHEMES,
        DistillationScheme,
        DistillationStats,
        OneStage,
        Simultaneous,
        TwoStage,
        build_scheme,
    )
    from osgan.distill.settings import Settings, TeacherSettings, defaults_for
    from osgan.distill.split import Split, load_split
    from osgan.distill.teacher import load_teacher, save_weights

__all__ = [
    "SCHEMES",
    "Distillation",
    "DistillationLoss",
    "DistillationScheme",
    "DistillationStats",
    "OneStage",
    "Point",
    "Settings",
    "Simultaneous",
    "Split",
    "TeacherOutputs",
    "TeacherSettings",
    "TwoStage",
    "build_scheme",
    "defaults_for",
    "distill",
    "load_split",
    "load_teacher",
    "predict_speedup",
    "save_weights",
]
