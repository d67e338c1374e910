"""OneNIP against values that the official code computed (gaobb/OneNIP e93dec5; no licence: numbers alone)."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from regenerated import normal, reference, regenerate
from torch import Tensor

from nandlib.detectors import onenip_network as onenip
from nandlib.detectors import synthesis, training
from nandlib.detectors.onenip_network import OneNipNetwork, dice_loss, joined_map, scale_of
from nandlib.detectors.rebuilt import distance_map, pooled_score

OFFICIAL = reference("onenip_official")
TOLERANCE = {"rtol": 0, "atol": 1e-4}  # an independent implementation came within 1.2e-5


def given(seed: int, shape: tuple[int, ...]) -> Tensor:
    return torch.from_numpy(normal(seed, shape))


def uniform(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.Generator(np.random.PCG64(seed)).random(shape)


QUERY, PROMPT = given(500, (2, 12, 6, 5)), given(501, (2, 12, 6, 5))
MASK = (given(510, (2, 96, 80)) > 1).float() * torch.tensor([1.0, 0.0])[:, None, None]


def small(**changes) -> OneNipNetwork:
    network = OneNipNetwork(12, (6, 5), **({"feedforward": 24, "layers": (2, 2), "window": (3, 3), "dropout": 0.0} | changes))
    regenerate(network)
    return network


def maps(network: OneNipNetwork) -> dict[str, Tensor]:
    with torch.no_grad():
        rebuilt = network(QUERY, PROMPT)
        logit = network.seghead((rebuilt - QUERY).abs())
    found = {"rec_feat": rebuilt, "rec_map": distance_map(rebuilt, QUERY, (96, 80)), "ref_logit": logit, "ref_map": logit.sigmoid()}
    found["constant"] = scale_of(found["rec_map"])
    found["map"] = joined_map(found["rec_map"], found["ref_map"], found["constant"])
    found |= {"score": pooled_score(found["map"]), "mse": F.mse_loss(rebuilt, QUERY), "dice_each": dice_loss(found["ref_map"], MASK)}
    return found | {"dice": found["dice_each"].mean()}


def traced(network: OneNipNetwork) -> dict[str, Tensor]:
    """What passes through the network: tokens are (token, batch, channel), every 17th channel."""
    seen, decoder, refiner = {}, network.transformer["decoder"], network.seghead

    def keep(*names):
        def hook(_, __, out):
            for name, part in zip(names, out if isinstance(out, tuple) else (out,), strict=False):
                seen[name] = part.detach().transpose(0, 1)[..., ::17] if part.ndim == 3 else part.detach()

        return hook

    network.transformer["encoder"].register_forward_hook(keep("encoder"))
    for k, layer in enumerate(decoder.layers):
        layer.register_forward_hook(keep(f"decoder_layer{k}_prompt", f"decoder_layer{k}_image"))
    decoder.layers[0].cross_attn_prompt_to_image.register_forward_hook(keep("layer0_prompt_to_image"))
    decoder.layers[0].cross_attn_image_to_prompt.register_forward_hook(keep("layer0_image_to_prompt"))
    decoder.final_attn_token_to_image.register_forward_hook(keep("final_attention"))
    decoder.register_forward_hook(keep("decoder_normed"))
    for name in ("upconv1", "upconv2", "predictor"):
        getattr(refiner, name).register_forward_hook(keep(name))
    found = maps(network)
    first, second = seen.pop("upconv1"), seen.pop("upconv2")
    blocks = {"refiner_block1": first[:, ::17], "refiner_block2": second[:, ::17, ::2, ::2], "refiner_logit": seen.pop("predictor")}
    return seen | found | blocks


STEPS = [key.removeprefix("small_") for key in OFFICIAL if key.startswith("small_")]


@pytest.fixture(scope="module")
def every_step() -> dict[str, Tensor]:
    return traced(small())


@pytest.mark.parametrize("step", STEPS)
def test_every_step_of_the_small_model(every_step, step):
    torch.testing.assert_close(every_step[step], OFFICIAL[f"small_{step}"], **TOLERANCE)


def test_dice_and_the_first_published_code():
    mask = MASK.clone()
    torch.testing.assert_close(dice_loss(mask, mask), OFFICIAL["dice_of_perfect_prediction"], **TOLERANCE)
    with torch.no_grad():
        torch.testing.assert_close(small(as_first_published=True)(QUERY, PROMPT), OFFICIAL["before_fix_rec_feat"], **TOLERANCE)


def batch(s: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Query, synthetic and prompt features, noise, masks of step s."""
    features = [given(seed + s, (2, 12, 6, 5)) for seed in (600, 620, 640)]
    masks = (given(680 + s, (4, 96, 80)) > 1).float()
    masks[:2] = 0
    return *features, given(660 + s, (30, 6, 12)).transpose(0, 1), masks


def test_six_steps_of_training():
    network = small().train()
    optimiser = training.adamw(network)
    losses, norms = [], []
    for s in range(6):
        query, synthetic, prompt, noise, masks = batch(s)
        rebuilt, logits, mse, dice = onenip.losses(network, query, synthetic, prompt, noise, masks)
        if s == 0:
            torch.testing.assert_close(rebuilt.detach(), OFFICIAL["train_first_rec_feat"], **TOLERANCE)
            torch.testing.assert_close(torch.cat([query, query]), OFFICIAL["train_first_target"], **TOLERANCE)
            torch.testing.assert_close(logits.detach()[:, ::3, ::3], OFFICIAL["train_first_ref_logit"], **TOLERANCE)
        total = mse + 0.5 * dice
        norms.append(training.descend(total, network, optimiser))
        losses.append([float(mse), float(dice), float(total)])
        if s == 0:
            own = network.input_proj.weight.grad[::17]
            torch.testing.assert_close(own, OFFICIAL["train_first_grad_input_proj_weight_clipped"], **TOLERANCE)
            own = network.seghead.predictor.weight.grad[..., 0, 0]
            torch.testing.assert_close(own, OFFICIAL["train_first_grad_predictor_weight_clipped"], **TOLERANCE)
    torch.testing.assert_close(torch.tensor(losses, dtype=torch.float64), OFFICIAL["train_losses_mse_dice_total"], **TOLERANCE)
    norms = torch.tensor(norms, dtype=torch.float64)
    # rounding alone, which six steps of Adam carry on, moves the sixth by more than 1e-4 of it: float64 differs from the record by 4.6e-4
    torch.testing.assert_close(norms, OFFICIAL["train_grad_norms_before_clip"], rtol=1e-3, atol=0)
    norm = network.seghead.upconv1[1]
    torch.testing.assert_close(norm.running_mean, OFFICIAL["train_final_running_mean"], rtol=0, atol=3e-4)  # as the maps below
    torch.testing.assert_close(norm.running_var, OFFICIAL["train_final_running_var"], **TOLERANCE)
    final = network.input_proj.weight.detach()[::17]
    torch.testing.assert_close(final, OFFICIAL["train_final_input_proj_weight"], rtol=0, atol=3e-6)  # a decay of 0.01 gives 5.8e-6
    found = maps(network.eval())
    for key in ("rec_map", "ref_map"):
        torch.testing.assert_close(found[key][:, ::3, ::3], OFFICIAL[f"train_final_{key}"], rtol=0, atol=3e-4)


def test_dropout_takes_the_residual_branches_and_nothing_else():
    query, synthetic, prompt, _, _ = batch(0)
    rebuilt = small(dropout=1.0).train()(torch.cat([query, synthetic]), prompt)
    torch.testing.assert_close(rebuilt.detach(), OFFICIAL["dropout_one_rec_feat"], **TOLERANCE)


def test_the_published_size():
    network, x, prompt = OneNipNetwork(), given(700, (1, 272, 14, 14)), given(701, (1, 272, 14, 14))
    regenerate(network)
    with torch.no_grad():
        rebuilt = network(x, prompt)
        logit = network.seghead((rebuilt - x).abs())
    torch.testing.assert_close(rebuilt[:, ::17], OFFICIAL["full_rec_feat"], **TOLERANCE)
    torch.testing.assert_close(distance_map(rebuilt, x, (224, 224))[:, ::5, ::5], OFFICIAL["full_rec_map"], **TOLERANCE)
    torch.testing.assert_close(logit[:, ::5, ::5], OFFICIAL["full_ref_logit"], **TOLERANCE)
    torch.testing.assert_close(F.mse_loss(rebuilt, x), OFFICIAL["full_mse"], **TOLERANCE)
    counts = [sum(p.numel() for p in part.parameters()) for part in (network, network.seghead)]
    assert counts == [8_372_625, 592_769]


def test_perlin_noise_and_what_is_pasted():
    field = synthesis.perlin((32, 48), 2 * np.pi * uniform(800, (5, 3)))
    np.testing.assert_allclose(field, OFFICIAL["perlin_32x48_res4x2"].numpy(), atol=1e-12)
    field = synthesis.perlin((64, 64), 2 * np.pi * uniform(801, (9, 5)))
    np.testing.assert_allclose(field, OFFICIAL["perlin_64x64_res8x4"].numpy(), atol=1e-12)
    image, texture = (np.floor(255 * uniform(seed, (64, 64, 3))) for seed in (802, 803))
    mask = (field > synthesis.THRESHOLD).astype(np.float32)
    np.testing.assert_array_equal(255 * mask, OFFICIAL["perlin_paste_mask"].numpy())
    pasted = synthesis.paste(image, texture, mask, 0.4)[::2, ::2]
    np.testing.assert_allclose(pasted, OFFICIAL["perlin_paste_image"].numpy(), atol=1e-4)


def test_the_comparison_notices_a_broken_step(monkeypatch):
    def worst(network=None) -> float:
        found = traced(network or small())
        return max(float((found[step] - OFFICIAL[f"small_{step}"]).abs().max()) for step in STEPS)

    assert worst() < 1e-4
    assert worst(small(as_first_published=True)) > 1e-2, "the code before the fix"
    assert worst(small(window=(5, 5))) > 1e-2, "the mask, by one"
    network = small()
    network.transformer["decoder"].norm = torch.nn.Identity()
    assert worst(network) > 1e-2, "the last norm"

    def usual(probability, mask):
        return 1 - (2 * (probability * mask).flatten(1).sum(1) + 1) / ((probability + mask).flatten(1).sum(1) + 1)

    def sigmoid_first(logits, size):
        return torch.logit(F.interpolate(logits.sigmoid(), size=size, mode="bilinear", align_corners=True))

    for what, (place, wrong) in {
        "the usual Dice": (f"{__name__}.dice_loss", usual),
        "sigmoid before resizing": ("nandlib.detectors.onenip_network.aligned", sigmoid_first),
        "the constant": (f"{__name__}.scale_of", lambda rebuilt: rebuilt.amax()),
        "the score": (f"{__name__}.pooled_score", lambda own: own.amax((1, 2))),
    }.items():
        with monkeypatch.context() as patch:
            patch.setattr(place, wrong)
            assert worst() > 1e-2, what
