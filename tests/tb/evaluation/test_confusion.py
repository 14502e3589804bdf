"""The picture of the confusion matrix."""

import io

import numpy as np
import pytest
from PIL import Image

from tb.evaluation.confusion import confusion_png


@pytest.mark.parametrize("num_classes", [2, 101, 400])
def test_confusion_pictures_of_any_size(num_classes: int) -> None:
    names = [rf"class $\x_{index}$" for index in range(num_classes)]  # text, not a formula
    matrix = np.diag(np.full(num_classes, 3))
    matrix[0] = 0  # a class without videos
    with Image.open(io.BytesIO(confusion_png(matrix, names))) as picture:
        assert 400 <= picture.width <= 2500
