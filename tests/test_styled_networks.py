"""HetNet-style and FADeR-style: what their parts promise, since no official code is known."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nandlib.detectors.fader_network import Gates, InpaintingUNet, chequerboard, dissimilarity, errors, gate_losses, gradient_magnitude
from nandlib.detectors.hetnet_network import (
    Fusion,
    HetNetwork,
    PatchTransformer,
    PositionNoise,
    distillation_losses,
    hidden_patches,
    in_boxes,
    patch_scores,
    random_boxes,
    unlike,
)

SCALES = [(5, 8, 8), (6, 4, 4), (7, 2, 2)]


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def test_noise_has_the_mean_and_covariance_of_its_position():
    features = torch.randn(40, 4, 1, 2) @ torch.diag(torch.tensor([3.0, 1.0])) + 2
    features[:, 1] = features[:, 0] * 0.5 + 0.1 * features[:, 1]  # channels that go together
    drawn = PositionNoise(features, epsilon=0.05).draw(20_000)
    extra = 0.05 * features.var(0, correction=0).mean()
    for column in (0, 1):
        own, new = features[:, :, 0, column], drawn[:, :, 0, column]
        assert torch.allclose(new.mean(0), own.mean(0), atol=0.1)
        assert torch.allclose(torch.cov(new.T), torch.cov(own.T) + extra * torch.eye(4), atol=0.35)
    across = torch.corrcoef(torch.stack([drawn[:, 0, 0, 0], drawn[:, 0, 0, 1]]))[0, 1]
    assert across.abs() < 0.05, "positions are drawn apart"


def test_boxes_cover_the_same_place_on_every_scale():
    boxes = random_boxes(50, 2, np.random.default_rng(0))
    assert {len(own) for own in boxes} == {1, 2}
    fine, coarse = in_boxes(boxes, (40, 40)).float(), in_boxes(boxes, (10, 10)).float()
    assert 0.03 < fine.mean() < 0.4
    share = F.avg_pool2d(fine, 4)  # of every coarse cell that lies in the fine boxes: whole cells, and none that hardly touch
    assert coarse[share == 1].mean() > 0.97 and coarse[share == 0].mean() < 0.03
    assert in_boxes([[(0.99, 0.99, 1.0, 1.0)]], (4, 4)).sum() == 1  # never none


def test_fusion_hears_both_teachers():
    fusion, local, far = Fusion((5, 9), 8), torch.randn(2, 5, 4, 4), torch.randn(2, 9, 3, 3)
    fused = fusion(local, far)
    assert fused.shape == (2, 8, 4, 4)
    assert (fusion(local + 1, far) - fused).abs().amax() > 1e-3 < (fusion(local, far + 1) - fused).abs().amax()
    both = [project(own) for project, own in zip(fusion.inside, (local, F.interpolate(far, size=(4, 4), mode="bilinear")), strict=True)]
    gates = (fused - both[1]) / (both[0] - both[1])  # were both gates one
    assert (gates - gates.mean((2, 3), keepdim=True)).abs().max() > 0, "gates differ between teachers"


def test_students_are_matched_to_what_the_page_says():
    network = HetNetwork([c for c, _, _ in SCALES], 9, 8).eval()
    local, far = [torch.randn(2, *shape) for shape in SCALES], [torch.randn(2, 9, 3, 3) for _ in SCALES]
    noisy = [torch.randn_like(own) for own in local]
    rebuilt, denoised = network(local, far, noisy)
    assert [own.shape for own in rebuilt] == [own.shape for own in local] == [own.shape for own in denoised]
    losses = distillation_losses(network, local, far, noisy)
    for name, pair in {"rebuild": (rebuilt, local), "denoise": (denoised, rebuilt)}.items():
        assert losses[name].detach() == pytest.approx(
            float(sum((1 - F.cosine_similarity(a, b)).mean().detach() for a, b in zip(*pair, strict=True))), rel=1e-5
        )
    losses["denoise"].backward()
    assert all(p.grad is None for p in network.rebuilding.parameters()), "the teacher of the denoising student stands still"
    assert any(p.grad is not None for p in network.denoising.parameters())
    joined = network.join(local, far)
    assert joined.shape == (2, 3 * 8, 2, 2)
    assert [sum(isinstance(m, torch.nn.Conv2d) for m in joining.modules()) for joining in network.joining] == [2, 1, 0]


def test_patch_scores_are_the_mean_of_both_students():
    network = HetNetwork([c for c, _, _ in SCALES], 9, 8).eval()
    local, far = [torch.randn(2, *shape) for shape in SCALES], [torch.randn(2, 9, 3, 3) for _ in SCALES]
    with torch.no_grad():
        found, students = patch_scores(network, local, far), network(local, far)
    plain = 0
    for student in students:
        plain = plain + sum(F.interpolate(own[:, None], (8, 8), mode="bilinear")[:, 0] for own in unlike(student, local)) / 2
    torch.testing.assert_close(found, plain)
    assert found.shape == (2, 8, 8) and found.min() >= 0


def test_the_second_teacher_learns_to_fill_in():
    teacher, images = PatchTransformer(32, 8, 16, 3), torch.rand(8, 1, 1, 4).repeat_interleave(8, 3).expand(-1, 3, 32, -1).contiguous()
    assert [own.shape for own in teacher(images)] == [(8, 16, 4, 4)] * 3
    hidden = hidden_patches(8, 16)
    assert (hidden.sum(1) == 8).all()
    images = images + torch.linspace(0, 0.5, 32)[None, None, :, None]
    before, steps = float(teacher.filling_loss(images, hidden)), torch.optim.Adam(teacher.parameters(), 3e-3)
    for _ in range(60):
        steps.zero_grad()
        loss = teacher.filling_loss(images, hidden_patches(8, 16))
        loss.backward()
        steps.step()
    assert float(teacher.filling_loss(images, hidden)) < 0.5 * before


def test_gradient_magnitudes_and_their_dissimilarity():
    ramp = torch.linspace(0, 1, 16).expand(1, 1, 16, 16)
    assert torch.allclose(gradient_magnitude(ramp)[..., 1:-1], torch.tensor(2 / 15), atol=1e-4)
    images = torch.rand(2, 3, 32, 32)
    assert dissimilarity(images, images).abs().max() < 1e-6
    other = images.clone()
    other[:, :, 8:16, 8:16] = 0.5
    lost = dissimilarity(images, other)
    assert lost.shape == (2, 1, 32, 32) and lost.min() > -1e-6 and lost.max() <= 1
    assert lost[..., 8:16, 8:16].mean() > 5 * lost[..., 24:, 24:].mean()
    g1, g2 = (gradient_magnitude(own.mean(1, keepdim=True)) for own in (images, other))
    plain = 1 - (2 * g1 * g2 + 0.0026) / (g1**2 + g2**2 + 0.0026)
    torch.testing.assert_close(dissimilarity(images, other, scales=1), plain)


def test_the_network_sees_every_other_cell_alone():
    mask = chequerboard(32, 8)
    assert mask.mean() == 0.5 and mask[0, 0, 0, 0] == 0 and mask[0, 0, 0, 8] == 1 == mask[0, 0, 8, 0]
    network, images = InpaintingUNet(32, (4, 6, 8), 8).eval(), torch.rand(1, 3, 32, 32)
    hidden = torch.where(mask == 0, torch.rand_like(images), images)
    torch.testing.assert_close(network(hidden), network(images))


def test_gates_weigh_the_skips_and_close_where_the_network_errs():
    network, gates = InpaintingUNet(32, (4, 6, 8), 8).eval().requires_grad_(False), Gates((4, 6))
    images = torch.rand(2, 3, 32, 32)
    skips = network.encoded(images)
    assert [own.shape[1:] for own in skips] == [(4, 32, 32), (6, 16, 16), (8, 8, 8)]
    assert torch.allclose(gates.weights(skips[0], 0), torch.tensor(0.9526), atol=1e-4)
    for level in gates.levels:
        torch.nn.init.constant_(level[2].bias, 100.0)
    torch.testing.assert_close(network(images, gates), network(images))  # open: as without
    for level in gates.levels:
        torch.nn.init.constant_(level[2].bias, -100.0)
    blind = network(images, gates)
    assert (blind - network(images)).abs().max() > 1e-4
    gates = Gates((4, 6))
    steps = torch.optim.Adam(gates.parameters(), 0.05)
    error = errors(network, images, 1)
    torch.testing.assert_close(error, dissimilarity(images, network(images)))
    for level, wanted in ((1e-6, 0.0), (1e6, 1.0)):  # every error is too high; none is
        for _ in range(150):
            steps.zero_grad()
            gate_losses(network, gates, images, images, error, level)["close"].backward()
            steps.step()
        assert float(gates.weights(skips[1], 1).mean().detach()) == pytest.approx(wanted, abs=0.1)
