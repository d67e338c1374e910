"""UniAD against values that the official code computed (zhiyuanyou/UniAD a5b9d9d, Apache-2.0), small and at the published size."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from regenerated import normal, reference, regenerate, weight
from torch import Tensor

from nandlib.detectors import tokens, training
from nandlib.detectors.backbones import EfficientNetB4
from nandlib.detectors.rebuilt import distance_map, neck, pooled_score
from nandlib.detectors.tokens import jitter, neighbour_mask, sine_position
from nandlib.detectors.uniad_network import UniAdNetwork
from nandlib.errors import PresetError

OFFICIAL = reference("uniad_official")
TOLERANCE = {"rtol": 0, "atol": 5e-5}  # an independent implementation came within 7.7e-6
TRAINED = {"rtol": 0, "atol": 1e-6}  # 6.0e-8; a weight decay of 0.01 in place of 1e-4 gives 1.2e-5


def given(seed: int, shape: tuple[int, ...]) -> Tensor:
    return torch.from_numpy(normal(seed, shape))


def small(**changes) -> UniAdNetwork:
    sizes = {"width": 16, "heads": 4, "feedforward": 24, "layers": (2, 3), "window": (3, 3), "dropout": 0.0}
    network = UniAdNetwork(12, (6, 5), **(sizes | changes))
    regenerate(network)
    return network


X = given(20, (2, 12, 6, 5))


def traced(network: UniAdNetwork, x: Tensor) -> dict[str, Tensor]:
    """What passes through the network, (token, batch, channel) as recorded."""
    seen, decoder = {}, network.transformer["decoder"]

    def keep(name):
        def hook(_, __, out):
            seen[name] = (out[0] if isinstance(out, tuple) else out).detach().transpose(0, 1)

        return hook

    network.input_proj.register_forward_hook(keep("tokens_projected"))
    for k, layer in enumerate(network.transformer["encoder"].layers):
        layer.register_forward_hook(keep(f"encoder_layer{k}"))
    for k, layer in enumerate(decoder.layers):
        layer.register_forward_hook(keep(f"decoder_layer{k}"))
    decoder.layers[0].self_attn.register_forward_hook(keep("decoder_layer0_first_attention"))
    decoder.register_forward_hook(keep("decoder_normed"))
    with torch.no_grad():
        rebuilt = network(x)
    maps = distance_map(rebuilt, x, (96, 80))
    scores = {"score_max": pooled_score(maps), "score_std": maps.flatten(1).std(1), "score_mean": maps.mean((1, 2))}
    return seen | scores | {"feature_rec": rebuilt, "map": maps, "mse": F.mse_loss(rebuilt, x), "position": network.pos_embed().detach()}


STEPS = [key.removeprefix("small_") for key in OFFICIAL if key.startswith("small_") and "mask_" not in key]


@pytest.mark.parametrize("step", STEPS)
def test_every_step_of_the_small_model(step):
    torch.testing.assert_close(traced(small(), X)[step], OFFICIAL[f"small_{step}"], **TOLERANCE)


@pytest.mark.parametrize(
    "name, masked",
    [("enc_only", (True, False, False)), ("dec1_only", (False, True, False)), ("dec2_only", (False, False, True)), ("none", (False,) * 3)],
)
def test_each_mask_alone(name, masked):
    with torch.no_grad():
        torch.testing.assert_close(small(masked=masked)(X), OFFICIAL[f"small_feature_rec_mask_{name}"], **TOLERANCE)


def test_masks_positions_jitter_and_neck():
    for window in ((3, 3), (4, 4), (3, 5)):
        assert torch.equal(neighbour_mask((6, 5), window), OFFICIAL[f"mask_6x5_{window[0]}x{window[1]}"])
    large = neighbour_mask((14, 14), (7, 7))
    assert torch.equal(torch.from_numpy(np.packbits(large.numpy())), OFFICIAL["mask_14x14_7x7_packed"])
    assert torch.equal(large.sum(1), OFFICIAL["mask_14x14_7x7_blocked_per_row"])
    torch.testing.assert_close(sine_position((6, 5), 16), OFFICIAL["sine_position_6x5x16"], rtol=0, atol=1e-6)
    torch.testing.assert_close(jitter(given(30, (30, 2, 12)), given(31, (30, 2, 12))), OFFICIAL["jittered_tokens"], **TOLERANCE)
    shapes = [(2, 2, 32, 24), (2, 3, 16, 12), (2, 2, 8, 6), (2, 3, 4, 3)]
    stages = [given(seed, shape) for seed, shape in enumerate(shapes, 11)]
    torch.testing.assert_close(neck(stages, (4, 3)), OFFICIAL["neck_feature_align"], **TOLERANCE)


def test_dropout_takes_the_residual_branches_and_nothing_else():
    network = small(dropout=1.0).train()
    torch.testing.assert_close(network(X), OFFICIAL["dropout_one_feature_rec"], **TOLERANCE)


def train(network: UniAdNetwork, steps: int = 10) -> dict[str, list | Tensor]:
    """Ten steps on recorded features and noise, as `nandlib` trains."""
    network.train()
    optimiser = training.adamw(network)
    found: dict[str, list | Tensor] = {"losses": [], "grad_norms_before_clip": []}
    for s in range(steps):
        x, noise = given(100 + s, (2, 12, 6, 5)), given(200 + s, (30, 2, 12)).transpose(0, 1)
        rebuilt = network(x, noise)
        if s == 0:
            found["first_feature_rec"] = rebuilt.detach()
        loss = F.mse_loss(rebuilt, x)
        found["grad_norms_before_clip"].append(training.descend(loss, network, optimiser))
        found["losses"].append(float(loss))
        if s == 0:
            found["first_grad_input_proj_weight_clipped"] = network.input_proj.weight.grad.clone()
            found["first_grad_learned_embed0_clipped"] = network.transformer["decoder"].layers[0].learned_embed.weight.grad.clone()
    return found


def finals(network: UniAdNetwork) -> dict[str, Tensor]:
    parameters = {name: parameter.detach() for name, parameter in network.named_parameters()}
    names = {
        "input_proj_weight": "input_proj.weight",
        "input_proj_bias": "input_proj.bias",
        "learned_embed0": "transformer.decoder.layers.0.learned_embed.weight",
        "row_embed": "pos_embed.row_embed.weight",
    }
    return {f"train_final_{key}": parameters[name] for key, name in names.items()}


def test_ten_steps_of_training():
    network = small()
    found = train(network)
    for key in ("first_feature_rec", "first_grad_input_proj_weight_clipped", "first_grad_learned_embed0_clipped"):
        torch.testing.assert_close(found[key], OFFICIAL[f"train_{key}"], **TOLERANCE)
    torch.testing.assert_close(torch.tensor(found["losses"], dtype=torch.float64), OFFICIAL["train_losses"], **TOLERANCE)
    norms = torch.tensor(found["grad_norms_before_clip"], dtype=torch.float64)
    torch.testing.assert_close(norms, OFFICIAL["train_grad_norms_before_clip"], rtol=1e-4, atol=0)
    for key, own in finals(network).items():
        torch.testing.assert_close(own, OFFICIAL[key], **TRAINED)
    with torch.no_grad():
        maps = distance_map(network.eval()(X), X, (96, 80))
    torch.testing.assert_close(maps, OFFICIAL["train_final_map"], **TOLERANCE)


def test_the_published_size():
    network, x = UniAdNetwork(), given(40, (1, 272, 14, 14))
    regenerate(network)
    with torch.no_grad():
        rebuilt = network(x)
    torch.testing.assert_close(rebuilt[:, ::17], OFFICIAL["full_feature_rec"], **TOLERANCE)
    torch.testing.assert_close(distance_map(rebuilt, x, (224, 224))[:, ::5, ::5], OFFICIAL["full_map"], **TOLERANCE)
    torch.testing.assert_close(F.mse_loss(rebuilt, x), OFFICIAL["full_mse"], **TOLERANCE)
    assert sum(p.numel() for p in network.parameters()) == 7_717_392


def test_the_rate_falls_when_the_official_one_does():
    rates = [training.rate(epoch, 1000) for epoch in range(1000)]
    assert rates.index(0.1 * 1e-4) == int(OFFICIAL["schedule_first_epoch_with_lower_rate"]) and set(rates) == {1e-4, 0.1 * 1e-4}


def test_the_comparison_notices_a_broken_step(monkeypatch):
    """One step at a time is done wrong; at least one recorded value then differs by far more than the tolerance."""

    def worst(network=None) -> float:
        seen = traced(network or small(), X)
        return max(float((seen[step] - OFFICIAL[f"small_{step}"]).abs().max()) for step in STEPS)

    assert worst() < 5e-5
    assert worst(small(window=(5, 5))) > 1e-2, "the mask, by one"
    with monkeypatch.context() as patch:
        patch.setattr("nandlib.detectors.rebuilt.aligned", lambda m, size: F.interpolate(m, size=size, mode="bilinear"))
        assert worst() > 1e-2, "half-pixel centres in place of aligned corners"
    network = small()
    rows = network.pos_embed.forward
    network.pos_embed.forward = lambda: rows().roll(8, 1)
    assert worst(network) > 1e-2, "row before column"
    network = small()
    layer = network.transformer["decoder"].layers[1]
    layer.self_attn, layer.multihead_attn = layer.multihead_attn, layer.self_attn
    assert worst(network) > 1e-2, "the order of the decoder's attentions"
    network = small()
    network.transformer["decoder"].norm = torch.nn.Identity()
    assert worst(network) > 1e-2, "the last norm"
    with monkeypatch.context() as patch:
        plain = tokens.attend
        patch.setattr(tokens, "attend", lambda a, q, k, v, m=None: plain(a, q, k, k, m))
        assert worst() > 1e-2, "position on the values"
    for what, (place, wrong) in {
        "softmax over the queries": ("nandlib.detectors.tokens.attend", over_queries),
        "norm before residual": ("nandlib.detectors.tokens.EncoderLayer.forward", norm_before_residual),
    }.items():
        with monkeypatch.context() as patch:
            patch.setattr(place, wrong)
            assert worst() > 1e-2, what


def over_queries(attention, query, key, value, mask=None):
    weights, biases = attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3)
    q, k, v = (
        F.linear(x, w, b).unflatten(2, (attention.num_heads, -1)).transpose(1, 2)
        for x, w, b in zip((query, key, value), weights, biases, strict=True)
    )
    scores = q @ k.transpose(2, 3) / q.shape[-1] ** 0.5
    scores = scores if mask is None else scores.masked_fill(mask, -torch.inf)
    return attention.out_proj((scores.softmax(2) @ v).transpose(1, 2).flatten(2))


def norm_before_residual(layer, x, position, mask):
    at = x + position
    x = x + layer.norm1(tokens.attend(layer.self_attn, at, at, x, mask))
    return x + layer.norm2(layer.linear2(F.relu(layer.linear1(x))))


def test_jitter_decay_and_clipping_are_noticed(monkeypatch):
    noisy = jitter(given(30, (30, 2, 12)), given(31, (30, 2, 12)), 10.0)
    assert (noisy - OFFICIAL["jittered_tokens"]).abs().max() > 1
    for change in ({"weight_decay": 0.01}, {"clip": 1.0}):
        network = small()
        with monkeypatch.context() as patch:
            if "clip" in change:
                plain = training.descend
                patch.setattr(training, "descend", lambda loss, net, opt, plain=plain: plain(loss, net, opt, clip=1.0))
            else:
                patch.setattr(training, "adamw", lambda net: torch.optim.AdamW(net.parameters(), 1e-4, weight_decay=0.01))
            train(network)
        assert max(float((own - OFFICIAL[key]).abs().max()) for key, own in finals(network).items()) > 5e-6, change


def test_a_window_that_hides_everything_is_refused():
    with pytest.raises(PresetError, match="a window of 7 x 7 hides the whole grid of 4 x 4 tokens"):
        UniAdNetwork(12, (4, 4), width=16, heads=4)


def official_names() -> list[str]:
    """Parameters of the official EfficientNet-B4, in their order, as far as stage 4's last block."""
    names = ["_conv_stem.weight", "_bn0.weight", "_bn0.bias"]
    for block in range(32):
        expand = [] if block < 2 else ["_expand_conv.weight", "_bn0.weight", "_bn0.bias"]
        depth = ["_depthwise_conv.weight", "_bn1.weight", "_bn1.bias"]
        squeeze = [f"_se_{kind}.{name}" for kind in ("reduce", "expand") for name in ("weight", "bias")]
        project = ["_project_conv.weight", "_bn2.weight", "_bn2.bias"]
        names += [f"_blocks.{block}.{name}" for name in expand + depth + squeeze + project]
    return names


@torch.no_grad()
def b4() -> EfficientNetB4:
    network = EfficientNetB4()
    for name, parameter in zip(official_names(), network.parameters(), strict=False):
        parameter.copy_(torch.from_numpy(weight(name, tuple(parameter.shape))))
    return network.eval()


STAGES = {1: (3, 9), 2: (3, 5), 3: (3, 3), 4: (7, 1)}  # every so many channels, every so many pixels


def test_the_backbone():
    with torch.no_grad():
        stages = b4()(given(50, (1, 3, 224, 224)))
    features = neck(stages, (14, 14))
    found = {f"stage{k}": stages[k - 1][:, ::c, ::step, ::step] for k, (c, step) in STAGES.items()}
    for name, value in (found | {"feature_align": features[:, ::11]}).items():
        expected = OFFICIAL[f"backbone_{name}"]
        torch.testing.assert_close(value, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


def test_the_usual_padding_is_noticed():
    network = b4()
    convolution = network.network.blocks[2][0].conv_dw
    convolution.padding = (0, 0)
    convolution.register_forward_pre_hook(lambda _, given: (F.pad(given[0], (1, 2, 1, 2)),))
    with torch.no_grad():
        third = network(given(50, (1, 3, 224, 224)))[2][:, ::3, ::3, ::3]
    assert (third - OFFICIAL["backbone_stage3"]).square().mean().sqrt() > 0.5 * OFFICIAL["backbone_stage3"].square().mean().sqrt()
