"""The networks on a backbone."""

import torch

from tb.networks.backbones import build_backbone
from tb.networks.heads import Classifier, Embedder, to_channels_last


def test_pooled_embedding_is_that_of_the_mean_and_slices_are_those_of_their_times() -> None:
    torch.manual_seed(0)
    model = Embedder(build_backbone("small")).eval()
    with torch.no_grad():
        features = model.backbone(torch.rand(2, 3, 8, 32, 32))
        pooled, slices = model.pooled(features), model.slices(features)
        assert pooled.shape == (2, 128)
        assert slices.shape == (2, 4, 128)
        assert torch.allclose(pooled, model.head(features.mean(dim=(2, 3, 4))), atol=1e-6)
        for time in range(4):
            alone = model.head(features[:, :, time, 0, 0])
            assert torch.allclose(slices[:, time], alone, atol=1e-5)
    assert torch.allclose(slices.norm(dim=-1), torch.ones(2, 4), atol=1e-5)
    assert torch.allclose(pooled.norm(dim=-1), torch.ones(2), atol=1e-5)


def test_channels_last_changes_the_layout_and_not_the_result() -> None:
    torch.manual_seed(0)
    model = Classifier(build_backbone("small"), 5).eval()
    clips = torch.rand(2, 3, 8, 32, 32)
    with torch.no_grad():
        plain = model(clips)
        to_channels_last(model)
        weights = model.backbone.trunk.state_dict()
        conv = next(w for w in weights.values() if w.dim() == 5 and w.shape[1] > 1)
        assert conv.is_contiguous(memory_format=torch.channels_last_3d)
        found = model(clips.contiguous(memory_format=torch.channels_last_3d))
    assert torch.allclose(plain, found, atol=1e-4)
