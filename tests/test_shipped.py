"""Files that come with the code are found in a clone and in an installed package."""

import importlib.util
from pathlib import Path

from sms_dist.base import shipped as module
from sms_dist.base.shipped import shipped


def test_the_folder_beside_the_package_is_found_in_a_clone() -> None:
    assert shipped("data") == Path(__file__).resolve().parents[1] / "data"
    assert (shipped("data") / "digits.yaml").is_file()


def test_the_folder_in_the_package_comes_first(tmp_path: Path) -> None:
    copy = tmp_path / "sms_dist" / "base" / "shipped.py"
    copy.parent.mkdir(parents=True)
    copy.write_text(Path(module.__file__).read_text())
    spec = importlib.util.spec_from_file_location("installed", copy)
    assert spec is not None
    assert spec.loader is not None
    installed = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(installed)
    assert installed.shipped("data") == tmp_path / "data"
    (tmp_path / "sms_dist" / "share" / "data").mkdir(parents=True)
    assert installed.shipped("data") == tmp_path / "sms_dist" / "share" / "data"
