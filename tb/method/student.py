"""Phase 3: the student, which learns from labels and from the two frozen teachers."""

from dataclasses import dataclass
from pathlib import Path

import torch

from loaders import Part
from shards.format.manifest import Manifest
from tb import losses
from tb.config.sections import Config, Student
from tb.method.classification import classifier_stage, new_classifier, start_student
from tb.method.streams import Stream, clip_views, training_device
from tb.method.teachers import Teachers, load_teachers, mix_teachers
from tb.networks.heads import Classifier
from tb.stage_kinds import StageKind
from tb.training.bad_videos import weights_of
from tb.training.stage import Stage
from tb.training.step import Step


@dataclass(frozen=True, kw_only=True)
class StudentStep:
    """A step of the student: its loss is L_sup + omega L_unsup.

    Attributes:
        student: The network in training.
        teachers: The frozen teachers and their weights.
        settings: The section `student`.
    """

    student: Classifier
    teachers: Teachers
    settings: Student

    def __call__(self, step: Step) -> None:
        """A whole step on labelled and unlabelled videos."""
        for labelled, unlabelled in step.batches():
            clips = torch.cat([labelled.views["clip"], unlabelled.views["clip"]])
            with step.autocast:
                # The target: p_T = s p_I + (1 - s) p_D, or p of the teacher with all the weight.
                with torch.no_grad():
                    probs = [net(clips).float().softmax(-1) for net in self.teachers.networks]
                    target = probs[0]
                    if len(probs) == 2:
                        invariant, distinctive = probs
                        s = self.teachers.invariant_weights_of(labelled, unlabelled)
                        target = mix_teachers(invariant, distinctive, s)

                logits, labels = self.student(clips).float(), labelled.labels
                supervised = losses.cross_entropy(
                    logits[: len(labels)], labels, weights_of(labelled)
                )
                distance = losses.distillation_loss(
                    logits, target, self.settings.distance, weights_of(labelled, unlabelled)
                )
                total = supervised + self.settings.omega * distance
            step.backward({"loss": total, "L_sup": supervised, "L_unsup": distance})
        step.update()


def student_stage(
    manifest: Manifest, config: Config, work: Path, name: str = StageKind.STUDENT
) -> Stage:
    """The student of the teachers in `work`; `name` is its own folder there.

    Raises:
        InputError: A teacher or the start is missing, unfinished, or of another backbone.
    """
    teachers = load_teachers(manifest, config, work, training_device(config), name=name)
    model = new_classifier(manifest, config)
    init = start_student(model, config, work)
    spec = clip_views(config)
    return classifier_stage(
        StageKind.STUDENT.value,
        model,
        manifest,
        config,
        optim=config.student.optim,
        streams=(Stream(part=Part.LABELLED, spec=spec), Stream(part=Part.UNLABELLED, spec=spec)),
        step=StudentStep(student=model, teachers=teachers, settings=config.student),
        own_settings={
            "student": config.student.model_dump(mode="json"),
            "teachers": teachers.source,
            "init": init,
        },
        frozen=teachers.networks,
    )
