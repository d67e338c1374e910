"""What people do with models of anomalib in their first two days: large images, other pre-processors, maps below zero, forgotten modes."""

import numpy as np
import pytest
import torch
from anomalib.data import InferenceBatch, PredictDataset
from anomalib.engine import Engine
from anomalib.models import Padim, Patchcore
from anomalib.pre_processing import PreProcessor
from PIL import Image
from torch import nn
from torchvision.transforms.v2 import CenterCrop, Compose, Lambda, Normalize, Pad, RandomHorizontalFlip, Resize

from nandlib import AdaptedDetector, add_normality
from nandlib.data.maps import check_maps
from nandlib.errors import DataError, ModelError
from nandlib.integrations.anomalib import AnomalibDetector, _as_seen, adapt_module

SMALL = Compose([Resize((64, 64), antialias=True), Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])])
IMAGE = Image.new("RGB", (64, 64), (150, 150, 150))


def patchcore(transform=SMALL) -> Patchcore:
    torch.manual_seed(0)
    pre_processor = PreProcessor(transform) if transform else False
    module = Patchcore(backbone="resnet18", layers=["layer2"], pre_trained=False, pre_processor=pre_processor, post_processor=False)
    module.model.memory_bank = torch.rand(50, 128)
    return module.eval()


class Fixed(nn.Module):
    """A network that gives these maps and scores for every image."""

    def __init__(self, maps: torch.Tensor, scores: torch.Tensor | None = None) -> None:
        super().__init__()
        self.maps, self.scores = maps, scores

    def forward(self, batch: torch.Tensor) -> InferenceBatch:
        maps = self.maps.expand(len(batch), 1, *self.maps.shape[-2:])
        return InferenceBatch(anomaly_map=maps, pred_score=None if self.scores is None else self.scores.expand(len(batch)))


def fixed(maps: list[list[float]], score: float | None = None) -> Patchcore:
    module = patchcore(None)
    module.model = Fixed(torch.tensor(maps)[None, None], None if score is None else torch.tensor([score]))
    return module.eval()


def test_a_large_image_is_seen_as_engine_predict_shows_it(tmp_path):
    """anomalib resizes with antialiasing where it trains and predicts, and without where it exports."""
    pixels = np.random.default_rng(0).integers(0, 255, (512, 512, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    module = patchcore()
    (found,) = AnomalibDetector(module)([tmp_path / "a.png"])
    engine = Engine(accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=tmp_path / "out")
    (predicted,) = engine.predict(module, dataset=PredictDataset(tmp_path / "a.png"))
    torch.testing.assert_close(found, predicted.anomaly_map.squeeze(), rtol=1e-4, atol=1e-4)
    exported = module.model(module.pre_processor(torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255)).anomaly_map
    assert (exported.squeeze() - found).abs().max() > 0.05, "what is exported differs: the comparison would notice"


@pytest.mark.parametrize(
    "step", [Pad([0, 8]), RandomHorizontalFlip(1.0), Lambda(lambda x: x[..., 8:40, 8:40])], ids=lambda own: type(own).__name__
)
def test_a_pre_processor_that_moves_the_image_is_refused(step):
    for steps in ([step, *SMALL.transforms], [CenterCrop(48), step, *SMALL.transforms]):
        with pytest.raises(ModelError, match=f"pre-processor has a {type(step).__name__}: .* adapt_module looks at what the model sees"):
            AnomalibDetector(patchcore(Compose(steps)))([IMAGE])


def test_one_crop_is_undone_and_two_are_refused():
    assert AnomalibDetector(patchcore(Compose([CenterCrop(48), *SMALL.transforms])))([IMAGE])[0].shape == (64, 64)
    with pytest.raises(ModelError, match="pre-processor has a CenterCrop more: "):
        AnomalibDetector(patchcore(Compose([CenterCrop(48), CenterCrop(32), *SMALL.transforms])))([IMAGE])


def test_a_transform_in_the_place_of_a_pre_processor(model):
    module, whole = patchcore(), patchcore()
    module.pre_processor = SMALL
    torch.testing.assert_close(AnomalibDetector(module)([IMAGE]), AnomalibDetector(whole)([IMAGE]))
    seen = _as_seen(SMALL(torch.full((3, 64, 64), 0.5)), SMALL)
    assert np.abs(np.asarray(seen, int) - 128).max() <= 1


def test_maps_below_zero_get_their_zero_from_normal_images(model, tmp_path):
    detector = AnomalibDetector(fixed([[-2.0, 1.0], [3.0, -1.0]]))
    with pytest.raises(DataError, match=r"go down to -2, .* AnomalibDetector\(module\)\.floored\(normals\), or --normals"):
        detector([IMAGE])
    floored = detector.floored([IMAGE])
    assert floored.floor == -2 and floored([IMAGE])[0].tolist() == [[0, 3], [5, 1]]
    assert AnomalibDetector(fixed([[0.0, 1.0]])).floored([IMAGE]).floor is None and detector.floored([]) is detector
    one_of_two = fixed([[1.0, 1.0]])
    maps = iter([torch.tensor([[[[1.0, 2.0]]]]), torch.tensor([[[[-3.0, 2.0]]]])])
    one_of_two.model.forward = lambda batch: InferenceBatch(anomaly_map=next(maps))
    assert AnomalibDetector(one_of_two).floored([IMAGE, IMAGE]).floor == -3


def test_a_module_whose_maps_and_scores_go_below_zero(model):
    module, batch = fixed([[-2.0, 1.0], [3.0, -1.0]], score=3.0), torch.rand(1, 3, 32, 32)
    with pytest.raises(DataError, match="go down to -2, .* floor="):
        adapt_module(module, "hair", model=model)(batch)
    adapted = adapt_module(module, "hair", model=model, floor=-2.0)
    found = adapted(batch)
    (kept,) = adapted.normality.damp([_as_seen(batch[0], None)], [np.array([[0, 3], [5, 1]], np.float32)])
    np.testing.assert_allclose(found.anomaly_map[0, 0], kept - 2, rtol=1e-5)
    assert float(found.pred_score) == pytest.approx(kept.max() - 2, rel=1e-5) and float(found.pred_score) < 3
    with pytest.raises(ModelError, match="keeps its floor: give it when the first normality is added"):
        adapt_module(adapted, "thread", floor=-2.0)


def test_scores_that_are_no_maxima_of_maps(model):
    batch = torch.rand(1, 3, 32, 32)
    with pytest.raises(DataError, match="maps or scores of Patchcore go down to -1, "):
        adapt_module(fixed([[1.0, 1.0]], score=-1.0), "hair", model=model)(batch)
    stays = adapt_module(fixed([[1.0, 1.0]], score=-1.0), "hair", model=model, floor=0.0)(batch)
    assert float(stays.pred_score) == -1 and float(stays.anomaly_map.max()) < 1
    of_its_own = adapt_module(fixed([[-2000.0, 1.0]], score=0.7), "hair", model=model, floor=-2000.0)(batch)
    assert 0 < float(of_its_own.pred_score) < 0.7


def test_a_batch_that_is_no_picture_is_refused(model):
    adapted = adapt_module(patchcore(None), "hair", model=model)
    with pytest.raises(ModelError, match=r"numbers from .* is no picture: give the module its pre_processor, or batches in 0\.\.1"):
        adapted(4 * torch.randn(1, 3, 64, 64))


def test_an_adapted_module_is_in_no_checkpoint(model):
    adapted = adapt_module(patchcore(), "hair", model=model)
    with pytest.raises(ModelError, match=r"holds no added normality: keep module\.normality\.save\(folder\)"):
        adapted.on_save_checkpoint({})


def test_a_module_that_was_put_back_to_train_does_not_learn():
    module = patchcore()
    detector = AnomalibDetector(module)
    expected = detector([IMAGE])[0]
    module.train()
    torch.testing.assert_close(detector([IMAGE])[0], expected)
    assert not getattr(module.model, "embedding_store", None) and not module.training


def test_a_module_that_is_not_fitted_says_so():
    module = Padim(backbone="resnet18", layers=["layer1"], pre_trained=False, n_features=10)
    with pytest.raises(ModelError, match=r"Padim gives nothing for an image of .*: is it fitted\?"):
        AnomalibDetector(module)([IMAGE])


def test_a_network_is_no_detector_by_itself():
    with pytest.raises(DataError, match=r"Patchcore is a model of anomalib, .*AnomalibDetector\(module\), or adapt_module"):
        add_normality(patchcore(), "hair")

    class Mine(nn.Module):
        def forward(self, images):
            return np.ones((len(images), 8, 8))

    assert add_normality(Mine(), "hair")([IMAGE])[0].shape == (8, 8)


@pytest.mark.parametrize("name", ["padim.ckpt", "net.onnx"])
def test_a_file_is_no_folder_of_maps(tmp_path, model, name):
    (tmp_path / name).touch()
    with pytest.raises(DataError, match=r"is a file, not a folder of anomaly maps: a checkpoint .*load_module; another network"):
        add_normality(tmp_path / name, "hair", model=model)


def test_predictions_one_by_one_are_read():
    maps = [InferenceBatch(anomaly_map=torch.ones(1, 1, 2, 2)), {"anomaly_map": np.ones((2, 2)), "pred_score": 3}]
    assert [found.tolist() for found in check_maps(maps, 2, "f")] == [[[1, 1], [1, 1]]] * 2
    adapted = add_normality(lambda images: [InferenceBatch(anomaly_map=torch.ones(1, 1, 8, 8)) for _ in images], "hair")
    assert isinstance(adapted, AdaptedDetector) and adapted([IMAGE])[0].max() <= 1
