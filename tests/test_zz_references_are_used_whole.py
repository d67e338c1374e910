"""After all tests that compare with official numbers (files run by name): every stored number has been looked at by one of them."""

import pytest
from regenerated import reference

USERS = {"aprilgan_official": {"test_aprilgan_reference", "test_projection_training"}, "winclip_reference": {"test_winclip_reference"}}
USERS |= {f"{name}_official": {f"test_{name}_reference"} for name in ("uniad", "onenip", "pbas", "pradot")}


@pytest.mark.parametrize("name", USERS)
def test_every_stored_number_is_compared(request, name):
    ran = {item.path.stem for item in request.session.items}
    if not USERS[name] <= ran or request.config.option.keyword or any("::" in argument for argument in request.config.args):
        pytest.skip(f"needs all of {', '.join(sorted(USERS[name]))} in the same run")
    assert set(reference(name)) == reference(name).read
