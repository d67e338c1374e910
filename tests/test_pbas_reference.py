"""PBAS against values that the official code computed (cqylunlun/PBAS 7617173, MIT), small and at the published size."""

import pytest
import torch
import torch.nn.functional as F
from regenerated import normal, reference, regenerate, weight
from scipy.ndimage import gaussian_filter
from torch import Tensor

from nandlib.detectors import pbas_equations as pbas
from nandlib.detectors import smoothing
from nandlib.detectors.smoothing import smooth_map

OFFICIAL = reference("pbas_official")
TOLERANCE = {"rtol": 0, "atol": 1e-5}  # an independent implementation came within 4.8e-7
NOISY = {"rtol": 0, "atol": 2e-3}  # a bias before the batch norm has no gradient: Adam makes steps of its rounding noise


def given(seed: int, shape: tuple[int, ...]) -> Tensor:
    return torch.from_numpy(normal(seed, shape))


def layers(images: Tensor) -> list[Tensor]:
    """The stand-in of a backbone."""
    kernels = [torch.from_numpy(weight(f"layer{k}.0.weight", shape)) for k, shape in ((2, (6, 3, 3, 3)), (3, (10, 6, 3, 3)))]
    biases = [torch.from_numpy(weight(f"layer{k}.0.bias", (n,))) for k, n in ((2, 6), (3, 10))]
    fine = F.conv2d(images, kernels[0], biases[0], stride=8, padding=1)
    return [fine, F.conv2d(fine, kernels[1], biases[1], stride=2, padding=1)]


BATCHES = [given(300 + k, (2, 3, 48, 40)) for k in range(3)]
TESTED = given(310, (2, 3, 48, 40))


def small():
    found = pbas.networks(16, 20)
    for network in found:
        regenerate(network)
    return found


def banks(projection) -> list[Tensor]:
    """After each batch of the one pass."""
    bank, found = None, []
    with torch.no_grad():
        for images in BATCHES:
            bank = pbas.remember(bank, projection(pbas.embed(layers(images), 16)).unflatten(0, (2, 30)))
            found.append(bank)
    return found


def judged(projection, discriminator) -> dict[str, Tensor]:
    with torch.no_grad():
        scores = discriminator.eval()(projection(pbas.embed(layers(TESTED), 16))).reshape(2, 6, 5)
    return {"patch_scores": scores, "image_score": scores.amax((1, 2)), "map": smooth_map(scores, (48, 40))}


def trained() -> tuple[dict[str, list], tuple]:
    projection, discriminator = small()
    bank, optimisers = banks(projection)[-1], pbas.optimisers(projection, discriminator)
    found: dict[str, list] = {name: [] for name in ("centre", "normal", "synthesised", "r_fake", "p_true", "p_fake")}
    seen: dict[str, Tensor] = {}
    discriminator.register_forward_hook(lambda _, given, out: seen.update({"in": given[0].detach(), "out": out.detach()}))
    discriminator.train()
    for _ in range(2):
        for images in BATCHES:
            projected = projection(pbas.embed(layers(images), 16))
            terms = pbas.losses(projected, bank, discriminator)
            beyond, normal, other = seen["in"][-60:], seen["out"][:60], seen["out"][-60:]
            record = {"r_fake": (beyond - bank[pbas.nearest_centres(projected, bank)]).norm(dim=1).mean()}
            record |= {"p_true": (normal < 0.5).float().mean(), "p_fake": (other >= 0.5).float().mean()}
            for name, value in (terms | record).items():
                found[name].append(float(value.detach()))
            for optimiser in optimisers:
                optimiser.zero_grad()
            sum(terms.values()).backward()
            if "first" not in found:
                found["first"] = [
                    projected.detach(),
                    beyond,
                    pbas.nearest_centres(projected.detach(), bank),
                    torch.cat([normal, other])[:, 0],
                ]
                found["grads"] = [projection.layers[0].weight.grad.clone(), discriminator.body.block1[0].weight.grad.clone()]
            for optimiser in optimisers:
                optimiser.step()
    return found, (projection, discriminator)


def test_features_embedding_and_centres():
    projection, _ = small()
    fine, coarse = layers(BATCHES[0])
    torch.testing.assert_close(fine, OFFICIAL["features_layer2"], **TOLERANCE)
    torch.testing.assert_close(coarse, OFFICIAL["features_layer3"], **TOLERANCE)
    embedding = pbas.embed([fine, coarse], 16)
    torch.testing.assert_close(embedding, OFFICIAL["embedding_before_projection"], **TOLERANCE)
    torch.testing.assert_close(projection(embedding).detach(), OFFICIAL["embedding_after_projection"], **TOLERANCE)
    for bank, key in zip(banks(projection), ("centre_bank_after_1_batches", "centre_bank_after_2_batches", "centre_bank"), strict=True):
        torch.testing.assert_close(bank, OFFICIAL[key], **TOLERANCE)


@pytest.mark.parametrize(("channels", "width"), [(720, 256), (1008, 256), (512, 256), (216, 256), (27, 27), (1, 3)])
def test_means_of_channels_are_adaptive_pooling_to_the_last_bit(channels, width):
    features = given(340, (2, channels, 30))
    pooled = F.adaptive_avg_pool1d(features.transpose(1, 2), width).transpose(1, 2)
    assert torch.equal(pbas.channel_means(features, width), pooled)


def test_before_training():
    found = judged(*small())
    torch.testing.assert_close(found["image_score"], OFFICIAL["test_untrained_image_score"], **TOLERANCE)
    torch.testing.assert_close(found["map"], OFFICIAL["test_untrained_map"], **TOLERANCE)


def test_six_steps_of_training():
    found, (projection, discriminator) = trained()
    true, other, slots, said = found["first"]
    torch.testing.assert_close(true, OFFICIAL["train_true_features_first"], **TOLERANCE)
    torch.testing.assert_close(other, OFFICIAL["train_synthesised_features_first"], **TOLERANCE)
    assert torch.equal(slots, OFFICIAL["train_nearest_centre_first"])
    torch.testing.assert_close(said, OFFICIAL["train_discriminator_first"], **TOLERANCE)
    both = [a + b for a, b in zip(found["normal"], found["synthesised"], strict=True)]
    total = [a + b for a, b in zip(found["centre"], both, strict=True)]
    recorded = {"svdd_loss": found["centre"], "bce_true": found["normal"], "bce_synthesised": found["synthesised"], "bce_loss": both}
    recorded |= {"total_loss": total, "r_fake": found["r_fake"], "p_true": found["p_true"], "p_fake": found["p_fake"]}
    for key, values in recorded.items():
        torch.testing.assert_close(torch.tensor(values, dtype=torch.float64), OFFICIAL[f"train_{key}"], **TOLERANCE)
    torch.testing.assert_close(found["grads"][0], OFFICIAL["train_first_grad_projection_weight"], **TOLERANCE)
    torch.testing.assert_close(found["grads"][1], OFFICIAL["train_first_grad_discriminator_weight"], **TOLERANCE)
    linear, norm = discriminator.body.block1[0], discriminator.body.block1[1]
    finals = {
        "projection_weight": (projection.layers[0].weight, 1e-7),  # a missing decay gives 3.0e-7
        "projection_bias": (projection.layers[0].bias, 1e-7),
        "discriminator_weight": (linear.weight, 1e-6),  # 1.5e-5
        "discriminator_tail": (discriminator.tail[0].weight, 1e-6),
        "running_mean": (norm.running_mean, 2e-3),
        "running_var": (norm.running_var, 1e-5),
    }
    for key, (value, bound) in finals.items():
        torch.testing.assert_close(value.detach(), OFFICIAL[f"train_final_{key}"], rtol=0, atol=bound)
    for key, value in judged(projection, discriminator).items():
        torch.testing.assert_close(value, OFFICIAL[f"test_{key}"], **NOISY)


def test_the_published_size():
    embedding = pbas.embed([given(320, (1, 512, 36, 36)), given(321, (1, 1024, 18, 18))], 1536)
    torch.testing.assert_close(embedding[::61, ::7], OFFICIAL["full_embedding"], **TOLERANCE)
    projection, discriminator = pbas.networks(1536, 1024)
    regenerate(projection), regenerate(discriminator)
    with torch.no_grad():
        projected = projection(embedding)
        torch.testing.assert_close(projected[::61, ::7], OFFICIAL["full_projected"], **TOLERANCE)
        torch.testing.assert_close(discriminator(projected)[::7, 0], OFFICIAL["full_discriminator_eval_mode"], **TOLERANCE)
        torch.testing.assert_close(discriminator.train()(projected)[::7, 0], OFFICIAL["full_discriminator_train_mode"], **TOLERANCE)
    scores = torch.sigmoid(given(330, (1, 36, 36)))
    torch.testing.assert_close(smooth_map(scores, (288, 288))[:, ::5, ::5], OFFICIAL["full_map_from_patch_scores"], **TOLERANCE)
    assert [sum(p.numel() for p in network.parameters()) for network in (projection, discriminator)] == [2_360_832, 1_576_960]


def test_neighbourhoods_after_resizing_are_noticed(monkeypatch):
    """The order is unfold, resize, average."""
    layers, plain = [given(320, (1, 512, 36, 36)), given(321, (1, 1024, 18, 18))], pbas.embed
    large = F.interpolate(layers[1], size=(36, 36), mode="bilinear", align_corners=False)
    assert (plain([layers[0], large], 1536)[::61, ::7] - OFFICIAL["full_embedding"]).abs().max() > 1e-2
    monkeypatch.setattr(pbas, "channel_means", lambda features, width: F.interpolate(features[:, None], (width, features.shape[2]))[:, 0])
    assert (plain(layers, 1536)[::61, ::7] - OFFICIAL["full_embedding"]).abs().max() > 1e-2, "a channel of every span in place of its mean"


def test_the_comparison_notices_a_broken_step(monkeypatch):
    def worst() -> float:
        found, _ = trained()
        total = [sum(found[name][k] for name in ("centre", "normal", "synthesised")) for k in range(6)]
        apart = [float((found["grads"][0] - OFFICIAL["train_first_grad_projection_weight"]).abs().max())]
        apart.append(float((torch.tensor(total, dtype=torch.float64) - OFFICIAL["train_total_loss"]).abs().max()))
        return max(*apart, float((banks(small()[0])[-1] - OFFICIAL["centre_bank"]).abs().max()))

    def all_detached(features, centres, plain=pbas.synthesise):
        beyond, distance = plain(features, centres)
        return beyond.detach(), distance

    def nothing_detached(features, centres):
        offset = features - centres
        distance = offset.norm(dim=1)
        return features + offset / distance[:, None] * distance.mean() * 0.25, distance

    def halves_apart(projected, bank, discriminator):
        beyond, distance = pbas.synthesise(projected, bank[pbas.nearest_centres(projected.detach(), bank)])
        normal, other = discriminator(projected), discriminator(beyond)
        terms = [F.binary_cross_entropy(x, torch.full_like(x, y)) for x, y in ((normal, 0.0), (other, 1.0))]
        return {"centre": distance.mean(), "normal": terms[0], "synthesised": terms[1]}

    def by_distance(features, bank):
        return torch.cdist(features, bank).argmin(1)

    broken = {"everything detached": ("synthesise", all_detached), "nothing detached": ("synthesise", nothing_detached)}
    broken |= {"halves normalised apart": ("losses", halves_apart), "nearest by distance": ("nearest_centres", by_distance)}
    broken |= {"k": ("BEYOND", 0.5), "the moving average": ("KEPT", 0.1)}
    assert worst() < 1e-5
    for what, (name, wrong) in broken.items():
        with monkeypatch.context() as patch:
            patch.setattr(pbas, name, wrong)
            assert worst() > 1e-4, what


@pytest.mark.parametrize(("cells", "size"), [((20, 20), (320, 320)), ((3, 7), (48, 40)), ((1, 5), (9, 5))])
def test_smoothing_by_plain_steps(cells, size):
    scores = torch.sigmoid(given(331, (2, *cells)))
    large = F.interpolate(scores[:, None], size, mode="bilinear", align_corners=False)[:, 0]
    plain = torch.stack([torch.from_numpy(gaussian_filter(single.numpy(), 4.0)) for single in large])
    torch.testing.assert_close(smooth_map(scores, size), plain, rtol=0, atol=1e-6)


@pytest.mark.parametrize("sigma", [3.0, 5.0])
def test_another_smoothing_is_noticed(monkeypatch, sigma):
    monkeypatch.setattr(smoothing, "SIGMA", sigma)
    scores = torch.sigmoid(given(330, (1, 36, 36)))
    assert (smooth_map(scores, (288, 288))[:, ::5, ::5] - OFFICIAL["full_map_from_patch_scores"]).abs().max() > 1e-3
