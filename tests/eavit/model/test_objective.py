"""Losses that the labels name: one class an image, or any number of them."""

import torch
from torch.nn import functional as F

from eavit.model.objective import (
    IGNORED,
    binary_distillation,
    distillation,
    distillation_loss,
    is_dense,
    is_multi_label,
    label_loss,
    patches_of,
    pixel_logits,
)

GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(6, 4, generator=GENERATOR)
TEACHER = torch.randn(6, 4, generator=GENERATOR)
CLASSES = torch.tensor([0, 1, 2, 3, 0, 1])
SEVERAL = (torch.rand(6, 4, generator=GENERATOR) < 0.4).float()

TOKENS = torch.randn(6, 1 + 4, 4, generator=GENERATOR)  # a class token and 2 x 2 patches
MASKS = torch.randint(4, (6, 8, 8), generator=GENERATOR, dtype=torch.uint8)


def test_the_shape_of_the_labels_names_the_task():
    assert [is_multi_label(labels) for labels in (CLASSES, SEVERAL, MASKS)] == [False, True, False]
    assert [is_dense(labels) for labels in (CLASSES, SEVERAL, MASKS)] == [False, False, True]


def test_one_class_an_image_has_the_cross_entropy():
    assert torch.equal(label_loss(LOGITS, CLASSES, 0.1), F.cross_entropy(LOGITS, CLASSES, label_smoothing=0.1))
    assert torch.equal(distillation_loss(LOGITS, TEACHER, CLASSES, 2.0), distillation(LOGITS, TEACHER, 2.0))


def test_several_labels_have_the_binary_cross_entropy_of_each():
    sure = torch.sigmoid(LOGITS)
    by_hand = -(SEVERAL * sure.log() + (1 - SEVERAL) * (1 - sure).log()).mean()
    torch.testing.assert_close(label_loss(LOGITS, SEVERAL), by_hand)
    smooth = label_loss(LOGITS, SEVERAL, 0.2)
    torch.testing.assert_close(smooth, F.binary_cross_entropy_with_logits(LOGITS, 0.8 * SEVERAL + 0.1))


def test_half_precision_logits_lose_nothing_in_the_loss():
    half = LOGITS.bfloat16()
    for labels in (CLASSES, SEVERAL):
        assert torch.equal(label_loss(half, labels), label_loss(half.float(), labels))


def test_binary_distillation_is_the_divergence_of_each_class_alone():
    """Equal to that of two classes with logits x and 0."""
    student, teacher = (
        torch.stack([side.flatten(), torch.zeros(24)], 1).requires_grad_(side is LOGITS) for side in (LOGITS, TEACHER)
    )
    for temperature in (1.0, 3.0):
        two = distillation(student, teacher, temperature)
        each = distillation_loss(LOGITS, TEACHER, SEVERAL, temperature)
        torch.testing.assert_close(each, two.detach())
    assert float(binary_distillation(TEACHER, TEACHER)) == 0


def test_no_gradient_reaches_a_teacher():
    for loss in (distillation, binary_distillation):
        mine, theirs = (side.clone().requires_grad_() for side in (LOGITS, TEACHER))
        loss(mine, theirs).backward()
        assert theirs.grad is None and mine.grad.abs().sum() > 0


# --- a class for each pixel -------------------------------------------------------------------------------------


def test_patches_are_the_last_tokens_row_by_row():
    patches = patches_of(TOKENS)
    assert patches.shape == (6, 4, 2, 2)
    assert torch.equal(patches[3, :, 1, 0], TOKENS[3, 1 + 2])
    flat = torch.full((1, 4, 1), 2.0)
    assert torch.equal(pixel_logits(flat, MASKS[:1]), torch.full((1, 1, 8, 8), 2.0))


def test_pixels_have_the_cross_entropy_of_the_enlarged_logits_and_some_do_not_count():
    pixels = pixel_logits(TOKENS, MASKS)
    torch.testing.assert_close(label_loss(TOKENS, MASKS), F.cross_entropy(pixels, MASKS.long()))
    half = MASKS.clone()
    half[:, :4] = IGNORED
    torch.testing.assert_close(label_loss(TOKENS, half), F.cross_entropy(pixels[:, :, 4:], MASKS[:, 4:].long()))


def test_a_teacher_of_pixels_teaches_each_token():
    other = torch.randn(6, 5, 4, generator=GENERATOR)
    taught = distillation_loss(TOKENS, other, MASKS, 2.0)
    torch.testing.assert_close(taught, distillation(TOKENS.reshape(30, 4), other.reshape(30, 4), 2.0))
