"""Members of tar files that point out of them are refused, by name."""

import tarfile

import pytest

from sms_dist.data.tar_index import check_member


def member(name, kind=tarfile.REGTYPE, linkname=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, linkname
    return info


@pytest.mark.parametrize("name", ["a.png", "train/a.png", "./a..b.png", "..a/b.cls"])
def test_plain_files_in_folders_are_allowed(name):
    check_member(member(name), "x.tar")
    check_member(member("train", tarfile.DIRTYPE), "x.tar")


@pytest.mark.parametrize(
    ("info", "fault"),
    [
        (member("/etc/passwd"), "absolute"),
        (member("C:\\a.png"), "absolute"),
        (member("\\\\host\\share\\a.png"), "absolute"),
        (member("../a.png"), r"\.\."),
        (member("a/../../b.png"), r"\.\."),
        (member("a\\..\\b.png"), r"\.\."),
        (member("a.png", tarfile.SYMTYPE, "/etc/passwd"), "link"),
        (member("a.png", tarfile.LNKTYPE, "b.png"), "link"),
        (member("a.png", tarfile.CHRTYPE), "no plain file"),
        (member("a.png", tarfile.BLKTYPE), "no plain file"),
        (member("a.png", tarfile.FIFOTYPE), "no plain file"),
        (member("a.png", tarfile.GNUTYPE_SPARSE), "no plain file"),
    ],
)
def test_what_points_elsewhere_is_refused_in_one_line_that_names_it(info, fault):
    with pytest.raises(ValueError, match=fault) as caught:
        check_member(info, "x.tar")
    text = str(caught.value)
    assert text.startswith("x.tar: member")
    assert repr(info.name) in text
    assert "\n" not in text
