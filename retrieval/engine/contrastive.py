"""Losses that align slides with reports and with each other. Imports torch."""

import torch
from torch import nn


def report_loss(
    slides: torch.Tensor, reports: torch.Tensor, owners: torch.Tensor, logit_scale: torch.Tensor
) -> torch.Tensor:
    """Return the symmetric InfoNCE loss with several positives.

    Every slide of a patient is a right answer to the patient's report, and the report to each
    of them: the target is shared evenly among them. After van den Oord et al., 2018, and Khosla
    et al., "Supervised Contrastive Learning", NeurIPS 2020.

    Parameters
    ----------
    slides, reports : float (B, D)
        L2-normalised; row i of both are of one patient.
    owners : int (B,)
        The patient of each row.
    logit_scale : float ()
        Logarithm of the inverse temperature; held at 100 at most.
    """
    scale = logit_scale.exp().clamp(max=100)
    logits = scale * slides @ reports.T
    same = (owners[:, None] == owners[None, :]).to(logits.dtype)
    targets = same / same.sum(1, keepdim=True)
    forward = nn.functional.cross_entropy(logits, targets)
    backward = nn.functional.cross_entropy(logits.T, targets)
    return (forward + backward) / 2


def label_loss(
    slides: torch.Tensor,
    labels: torch.Tensor,
    owners: torch.Tensor,
    hospitals: torch.Tensor,
    *,
    temperature: float = 0.1,
    across_hospitals: bool = True,
) -> torch.Tensor:
    """Return the supervised contrastive loss against the hospital.

    A positive is a slide of the same label from *another* hospital: to bring it near, the
    model must leave the hospital's look aside. Slides of the same label and hospital are
    neither positive nor negative; slides of one patient never meet.

    Parameters
    ----------
    slides : float (B, D)
        L2-normalised.
    labels, owners, hospitals : int (B,)
        A label of -1 is not known; its slide is a negative of none.
    temperature : float
    across_hospitals : bool
        False, where there is only one hospital: any other patient's slide of the label is a
        positive.

    Returns
    -------
    float ()
        0 where no slide has a positive.
    """
    logits = slides @ slides.T / temperature
    known = (labels >= 0)[:, None] & (labels >= 0)[None, :]
    same_label = (labels[:, None] == labels[None, :]) & known
    same_hospital = hospitals[:, None] == hospitals[None, :]
    other_patient = owners[:, None] != owners[None, :]
    positive = same_label & other_patient
    if across_hospitals:
        positive &= ~same_hospital
    compared = known & other_patient & (positive | ~same_label)
    logits = logits.masked_fill(~compared, float("-inf"))
    has_positive = positive.any(1)
    if not bool(has_positive.any()):
        return slides.sum() * 0
    chance = logits[has_positive].log_softmax(1)
    mask = positive[has_positive]
    per_slide = -chance.masked_fill(~mask, 0).sum(1) / mask.sum(1)
    return per_slide.mean()
