"""The standalone builder gives the modules of the extract, names and shapes alike."""

import pytest
import torch

from eavit.deploy.architecture import rebuilt
from eavit.deploy.elastic import ElasticModel
from eavit.deploy.export import Exported
from eavit.deploy.standalone import create_vit
from eavit.model.submodel import Submodel
from eavit.model.vit import NestedViT
from tests.eavit.deploy.test_architecture import FORMS
from tests.eavit.families import KEYS, family
from tests.eavit.small import plain


@pytest.mark.parametrize("key", [*KEYS, "e7-h0.4.1-m0.24.1", "e1-h1.0.0-m0x3"])
@pytest.mark.parametrize("form", FORMS)
def test_it_builds_what_was_extracted(form, key):
    elastic = ElasticModel(NestedViT.from_timm(plain(**FORMS[form])), family().table)
    submodel = Submodel.parse(key)
    wanted = elastic.extract(submodel)
    vit = create_vit(Exported(wanted, submodel, rebuilt(elastic.vit), None, elastic).spec)
    vit.load_state_dict(wanted.state_dict())
    images = torch.randn(2, 1, *elastic.vit.patch_embed.img_size)
    with torch.no_grad():
        assert torch.equal(vit(images), wanted(images))
