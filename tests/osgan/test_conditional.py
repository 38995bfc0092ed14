"""A conditional GAN draws the digit it is asked for."""

import pytest
import torch
from sklearn.linear_model import LogisticRegression

from osgan import data
from osgan.training.recipe import Recipe
from osgan.training.trainer import Trainer


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", resolution=32, device="cpu")


@pytest.fixture(scope="module")
def classifier(digits):
    images, labels = next(digits.batches(digits.num_images, seed=0))
    half = digits.num_images // 2
    found = LogisticRegression(max_iter=200).fit(images[:half].flatten(1).numpy(), labels[:half].numpy())
    assert found.score(images[half:].flatten(1).numpy(), labels[half:].numpy()) > 0.9
    return found


def agreement(classifier, trainer, labels):
    """Return the share of generated images in which the classifier, which saw only real ones, sees these labels."""
    images = trainer.sample(500)  # the labels asked for go round the classes
    return (classifier.predict(images.flatten(1).numpy()) == labels.numpy()).mean()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["one_stage", "two_stage"])
def test_a_classifier_of_real_digits_sees_the_digit_asked_for(scheme, digits, classifier):
    recipe = Recipe(
        dataset="digits",
        architecture="cdcgan32+width=16",
        scheme=scheme,
        batch_size=32,
        images=600 * 32,
        generator_lr=1e-3,
        ema_half_life=1000,
    )
    trainer = Trainer(recipe, dataset=digits)
    asked = torch.arange(500) % 10
    assert agreement(classifier, trainer, asked) < 0.3
    trainer.train(recipe.num_steps)
    trainer.losses()
    assert agreement(classifier, trainer, asked) >= 0.8
    assert agreement(classifier, trainer, asked.flip(0)) < 0.3  # asked for others, it would be wrong
